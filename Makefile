# Two commands: `make demo` trains and reports on a judge, `make test` checks the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
BASE := models/SmolLM2-135M-Instruct

.PHONY: demo test style
demo: $(VENV)/installed $(BASE)/config.json
	$(BIN)/python recipes/synthesize.py --output_dir data/demo
	$(BIN)/python recipes/prepare.py --sources data/demo/train.csv --validation_share 0.1 \
		--output_dir data/demo/battles
	$(BIN)/accelerate launch --config_file accelerate_configs/cpu.yaml recipes/sft.py smollm2.yaml \
		--dataset_name data/demo/battles --output_dir $(DEMO)
	$(BIN)/accelerate launch --config_file accelerate_configs/cpu.yaml recipes/predict.py \
		--adapter $(DEMO) --test_file data/demo/test.csv --output_file $(DEMO)/submission.csv
	$(BIN)/python recipes/validate.py --adapters $(DEMO) --test_file data/demo/test.csv \
		--known_probabilities data/demo/test_probabilities.csv --output_dir $(DEMO)/report

test: $(VENV)/installed
	$(BIN)/python -m pytest

style: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

$(BASE)/config.json:
	$(BIN)/python recipes/fetch.py --output_dir $(BASE)

# torch first and exactly: a range would let pip prefer a newer build with CUDA on a machine without a GPU.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev,gguf]'
	touch $@
