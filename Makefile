# `make demo` trains and reports on a judge, `make test` checks the project (`make slow` the rest), `make quality` style,
# layers and types, `make docs` builds the pages, `make build` what is released.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JUDGE := runs/demo
BASE := models/SmolLM2-135M-Instruct
TORCH := torch==2.13.0

.PHONY: demo test slow style quality docs keys options lock build
demo: $(VENV)/installed $(BASE)/config.json
	$(BIN)/lmsys-trl synthesize --output_dir data/demo
	$(BIN)/lmsys-trl prepare --sources data/demo/train.csv --validation_fraction 0.1 --output_dir data/demo/battles
	$(BIN)/lmsys-trl sft smollm2.yaml --dataset_name data/demo/battles --output_dir $(JUDGE) --accelerate_config cpu
	$(BIN)/lmsys-trl predict --adapter $(JUDGE) --dataset_name data/demo/battles --tta swap \
		--calibrated false --output_file $(JUDGE)/validation.parquet --accelerate_config cpu
	$(BIN)/lmsys-trl calibrate --adapter $(JUDGE) --predictions $(JUDGE)/validation.parquet
	$(BIN)/lmsys-trl validate --adapter $(JUDGE) --test_file data/demo/test.csv \
		--known_probabilities data/demo/test_probabilities.csv --output_dir $(JUDGE)/report --accelerate_config cpu
	$(BIN)/lmsys-trl ensemble --predictions $(JUDGE)/report/predictions.parquet --weights 1 \
		--output_file $(JUDGE)/submission.csv --accelerate_config cpu

test: $(VENV)/installed
	$(BIN)/python -m pytest

slow: $(VENV)/installed  # the tests that take minutes, the winners' recipes among them
	$(BIN)/python -m pytest -m slow

style: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

quality: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(VENV)/docs-installed  # a broken link fails
	$(BIN)/mkdocs build --strict

keys: $(VENV)/installed  # after an update of trl or transformers
	$(BIN)/python -m lmsys_trl.keys

options: $(VENV)/installed  # after a change of keys
	$(BIN)/python docs/generate_options.py

build: $(VENV)/release-installed  # sdist and wheel
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

$(BASE)/config.json:
	$(BIN)/lmsys-trl fetch --output_dir $(BASE)

# torch last: the build that pip finds for this machine, and what that build needs besides. Compiled by all cores, which
# pip does by one; some packages have files that are no Python.
$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-compile $(TORCH)
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

$(VENV)/%-installed: $(VENV)/installed  # an extra that is not in the lock file
	$(BIN)/pip install --quiet --editable '.[$*]'
	touch $@

lock:  # needs uv, and torch's build for CPUs in UV_FIND_LINKS: that for CUDA needs more packages
	sed -n 1p requirements.lock > requirements.new
	echo '$(TORCH)+cpu' | uv pip compile --quiet --python $(BIN)/python --extra dev --generate-hashes --no-annotate \
		--no-header --no-emit-package torch pyproject.toml - >> requirements.new
	mv requirements.new requirements.lock
