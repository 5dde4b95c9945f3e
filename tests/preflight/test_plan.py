"""Memory, time and cost of recipes, against what real models hold and save, and the command."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from helpers.models import NF4, build_base
from helpers.run import REPOSITORY, recipe, recipe_here
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from lmsys_trl.config import read_config
from lmsys_trl.data.schema import BATTLE_SCHEMA
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.encoding.batching import token_batches
from lmsys_trl.errors import UserError
from lmsys_trl.models.base import load_base
from lmsys_trl.options import MODEL_CONFIG, TRAINING_CONFIG, JudgeConfig
from lmsys_trl.preflight.changes import Case, smallest_change
from lmsys_trl.preflight.cost import forward_flops, training_work
from lmsys_trl.preflight.gpus import GPUS, find_gpus
from lmsys_trl.preflight.launch import read_accelerate_configs
from lmsys_trl.preflight.lengths import Lengths, stated_lengths
from lmsys_trl.preflight.memory import (
    GIB,
    Batch,
    prediction_memory,
    saved_by_pair,
    saved_by_token,
    training_memory,
)
from lmsys_trl.preflight.plan import Request, estimate_memory, make_plan, possible_batches
from lmsys_trl.preflight.recipe import BUNDLED_CONFIGS, find_model_config
from lmsys_trl.preflight.setup import NESTED_BYTES, PLAIN_BYTES, Setup, setup_of_recipe, sharding_of
from lmsys_trl.preflight.shapes import measure_shape

MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj"]
QLORA = Setup(NESTED_BYTES, 2, 2, 2, dropout=True, quantised=True)


def lora(rank=32, targets=MATRICES, dropout=0.05, **more):
    return LoraConfig(r=rank, lora_dropout=dropout, target_modules=[*targets], task_type="CAUSAL_LM", **more)


@pytest.fixture(scope="module")
def gemma():
    """gemma-2-9b with the adapter of gemma.yaml."""
    return measure_shape(find_model_config("google/gemma-2-9b-it", None, None)[0], lora(), attention="eager")


def small(kind, **changes):
    values = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
    values |= {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300}
    return AutoConfig.for_model(kind, **values | changes)


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("google/gemma-2-9b-it", 9_241_705_984),
        ("google/gemma-2-2b-it", 2_614_341_888),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_shapes_hold_all_parameters_of_the_published_models(name, num_parameters):
    shape = measure_shape(find_model_config(name, None, None)[0], lora())
    assert shape.num_matrix_weights + shape.num_frozen == num_parameters
    rank = sum(32 * (m.inputs + m.outputs) for layer in shape.layers for m in layer.matrices if m.rank)
    assert shape.num_trained == rank > 0


def test_a_trained_head_takes_the_place_of_the_base_models():
    config = find_model_config("meta-llama/Llama-3.1-8B-Instruct", None, None)[0]
    whole, rows = (
        measure_shape(config, lora(modules_to_save=saved), head)
        for head, saved in (("lm_head", None), ("new", ["lm_head"]))
    )
    assert (whole.head_rows, rows.head_rows) == (128_256, 3)
    assert rows.num_trained == whole.num_trained + 3 * 4096
    assert whole.num_frozen - rows.num_frozen == (128_256 - 3) * 4096


def test_lower_layers_without_an_adapter_save_nothing():
    config = small("llama")
    shape = measure_shape(config, lora(layers_to_transform=[2]))
    assert shape.first_trained == 2
    all_layers = training_memory(measure_shape(config, lora()), QLORA, Batch(1, 100))
    assert training_memory(shape, QLORA, Batch(1, 100)).activations < all_layers.activations / 2


def test_a_mixture_of_experts_is_refused():
    config = AutoConfig.for_model(
        "mixtral", hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=100,
        num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    with pytest.raises(UserError, match="mixtral is not a dense decoder"):
        measure_shape(config, lora())


@pytest.mark.parametrize(("nested", "size"), [(False, PLAIN_BYTES), (True, NESTED_BYTES)])
def test_weights_in_4_bits_take_what_a_real_model_takes(tmp_path, nested, size):
    base = build_base(tmp_path, hidden_size=256, intermediate_size=512)
    model = load_base(base, "bfloat16", "eager", NF4 | {"bnb_4bit_use_double_quant": nested})
    held = 0
    for parameter in model.parameters():
        held += parameter.untyped_storage().nbytes()
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            held += state.absmax.nbytes
            state = state.state2 if state.nested else None
    shape = measure_shape(AutoConfig.from_pretrained(base), lora())
    planned = training_memory(shape, Setup(size, 2, 2, 2, quantised=True), Batch(1, 8)).weights
    assert planned == pytest.approx(held, rel=0.001)


def saved_bytes(kind, attention, in_16_bits, length, dropout):
    """What a real model saves for its backward pass, each storage once, without parameters."""
    torch.manual_seed(0)
    config = small(kind)
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention, dtype=torch.bfloat16 if in_16_bits else torch.float32
    )
    model = get_peft_model(model, lora(8, dropout=dropout))
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes(), tensor  # kept, so that no other takes its place
        return tensor

    ids = torch.randint(0, 300, (1, length))
    backbone = model.get_base_model().model
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=in_16_bits):
        kept = backbone(input_ids=ids, position_ids=torch.arange(length)[None], use_cache=False)
    assert kept.last_hidden_state.requires_grad
    return sum(size for size, _ in saved.values())


@pytest.mark.parametrize(
    ("kind", "attention", "in_16_bits", "dropout"),
    [
        ("llama", "eager", False, 0.0),
        ("llama", "sdpa", True, 0.0),
        ("gemma2", "eager", True, 0.0),
        ("gemma2", "eager", True, 0.05),
        ("qwen3", "sdpa", False, 0.0),
        ("qwen2", "eager", False, 0.1),
    ],
)
def test_activations_are_those_that_a_real_model_saves(kind, attention, in_16_bits, dropout):
    shape = measure_shape(small(kind), lora(8, dropout=dropout), attention=attention)
    size = 2 if in_16_bits else 4
    setup = Setup(size, size, size, size, adapter_input_bytes=size, shares_inputs=not in_16_bits, on_gpu=False,
                  dropout=dropout > 0)  # fmt: skip
    for length in (96, 192):
        batch = Batch(1, length)
        by_token = sum(saved_by_token(shape, layer, setup, batch) for layer in shape.layers) * length
        by_pair = saved_by_pair(shape, setup, batch) * batch.pairs * len(shape.layers)
        assert by_token + by_pair == pytest.approx(saved_bytes(kind, attention, in_16_bits, length, dropout), rel=0.07)


@pytest.mark.parametrize(
    ("kind", "attention", "in_16_bits", "batch"),
    [
        ("gemma2", "eager", True, Batch(1, 256)),
        ("llama", "sdpa", False, Batch(3, 128)),
        ("qwen3", "eager", False, Batch(2, 128)),
    ],
)
def test_a_prediction_allocates_what_is_planned(kind, attention, in_16_bits, batch):
    size, config = 2 if in_16_bits else 4, small(kind)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if in_16_bits else torch.float32
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype).eval()
    model = get_peft_model(model, lora(8))
    mask = torch.ones(batch, dtype=torch.long)
    mask[1:, :5] = 0
    inputs = {
        "input_ids": torch.ones_like(mask),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(0),
    }
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model(**inputs, logits_to_keep=1, use_cache=False)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    used = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        used += event.nbytes()
        peak = max(peak, used)
    setup = Setup(size, size, size, size, on_gpu=False)
    planned = prediction_memory(measure_shape(config, lora(8), attention=attention), setup, batch)
    assert planned.scores + planned.workspace == pytest.approx(peak, rel=0.1)


def test_the_figures_of_gemma_that_were_computed_by_hand(gemma):
    matrices, attention = forward_flops(gemma, 1)
    assert matrices == pytest.approx(16.6e9, rel=0.01) and attention == pytest.approx(0.69e6, rel=0.01)
    batch, checkpointing = Batch(1, 2200), replace(QLORA, checkpointing=True)
    flex = replace(gemma, attention="flex_attention")
    found = [
        training_memory(*case, batch).total / GIB for case in ((gemma, QLORA), (flex, QLORA), (gemma, checkpointing))
    ]
    assert found == pytest.approx([51, 27, 9], rel=0.08)
    work = training_work(gemma, QLORA, [2200] * 16, 1, 16, 16)
    assert work.flops / work.tokens == pytest.approx(38e9, rel=0.01) and work.steps == 1 and work.passes == 32


sizes = st.integers(1, 3000)


@settings(max_examples=15)
@given(
    length=sizes,
    more=sizes,
    examples=st.integers(1, 8),
    attention=st.sampled_from(["eager", "sdpa", "flex_attention"]),
)
def test_memory_grows_with_what_is_trained(gemma, length, more, examples, attention):
    shape = replace(gemma, attention=attention)

    given_batch = Batch(examples, length)

    def total(shape=shape, setup=QLORA, batch=given_batch):
        return training_memory(shape, setup, batch).total

    assert total(batch=Batch(examples, length + more)) > total()
    assert total(batch=Batch(examples + 1, length)) > total()
    assert total(replace(shape, attention="flex_attention")) <= total()
    assert total(setup=replace(QLORA, checkpointing=True)) < total()
    assert total(setup=replace(QLORA, matrix_bytes=2, quantised=False)) > total()
    assert total(setup=replace(QLORA, processes=4, sharding="ddp")) > total()
    split = [total(setup=replace(QLORA, processes=n, sharding="fsdp")) for n in (2, 4, 8)]
    assert split == sorted(split, reverse=True)
    reading = prediction_memory(shape, QLORA, Batch(examples, length))
    assert reading.total < total() and reading.gradients == reading.optimizer == 0


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 700), min_size=1, max_size=40), tokens=st.integers(1, 900))
def test_no_batch_needs_more_than_the_largest_that_is_possible(gemma, lengths, tokens):
    def total(batch):
        return training_memory(gemma, QLORA, batch).total

    largest = max(map(total, possible_batches(lengths, 8, tokens)))
    chosen = sorted(lengths)[-8:]
    for places in token_batches(chosen, tokens):
        assert total(Batch(len(places), max(chosen[i] for i in places))) <= largest


def read(name, *options):
    judge, model, training = read_config(
        JudgeConfig, MODEL_CONFIG, TRAINING_CONFIG, argv=[name, *options], script=REPOSITORY / "recipes" / "sft.py"
    ).configs
    return judge, model, training


@pytest.mark.parametrize(
    ("name", "gpu", "options"),
    [
        ("gemma.yaml", "A40", {"max_length": "2200"}),
        ("gemma.yaml", "L4", {"max_length": "8000", "per_device_train_batch_size": "2"}),
        ("llama.yaml", "A10", {"max_length": "8000", "load_in_4bit": "false"}),
    ],
)
def test_the_smallest_change_is_enough_when_it_is_made(name, gpu, options):
    def verdict(options):
        recipe = read(name, *(word for key, value in options.items() for word in (f"--{key}", value)))
        config = find_model_config(recipe[1].model_name_or_path, None, None)[0]
        lengths = stated_lengths(4, None, recipe[2].max_length, recipe[2].max_length)
        return make_plan(config, *recipe, None, lengths, Request(find_gpus([gpu]), 0.4, 0.1, {})).verdicts[0]

    before = verdict(options)
    assert not before.trains
    after = verdict(options | dict(change.split(": ") for change in before.change.split(", ")))
    assert after.trains and after.change is None


def test_stated_battles_are_told_from_assumed_ones_and_too_many_refused():
    with pytest.raises(ValueError, match="num_battles: 10,000,001, and 10,000,000 are the most"):
        stated_lengths(10_000_001, None, 100, 100)
    assert stated_lengths(None, 50, 100, 100).source.endswith("(assumed: give --num_battles, or name the data)")
    assert stated_lengths(9, 50, 100, 100).source.endswith("(stated)")


def test_passes_are_those_of_the_batches_that_tokens_divide():
    def plan(*words):
        recipe = read("gemma.yaml", *words)
        config = find_model_config(recipe[1].model_name_or_path, None, None)[0]
        lengths = Lengths([2200, 700, 700, 700] * 8, [1900], "")
        return make_plan(config, *recipe, None, lengths, Request(find_gpus(["H200"]), 0.4, 0.1, {}))

    alone, divided = plan(), plan("--per_device_train_batch_size", "16", "--max_tokens_per_batch", "2200")
    # Of 16 examples four are long, and three of the others fit in a batch.
    assert alone.work.passes == 2 * 32 and divided.work.passes == 2 * 16
    assert divided.memory.total == alone.memory.total and divided.verdicts[0].hours < 0.6 * alone.verdicts[0].hours


def test_what_a_recipe_says_that_it_needs_is_what_is_planned():
    """The smallest memory of which all GPUs fit, for each recipe on one GPU whose base model's shapes are bundled."""
    sizes = {"T4": 16, "L4": 24, "A10": 24, "4090": 24, "A100-40": 40, "A40": 48, "A100-80": 80, "H100": 80}
    found, planned = {}, {}
    for path in sorted((REPOSITORY / "recipes" / "sft").glob("*.yaml")):
        needs = re.search(r"^# Needs: (?:a|one) GPU with (\d+) GB", path.read_text(), re.M)
        recipe = read(path.name)
        name = str(recipe[1].model_name_or_path)
        if needs and (BUNDLED_CONFIGS / f"{name.replace('/', '--')}.json").is_file():
            memory = estimate_memory(find_model_config(name, None, None)[0], *recipe)[0]
            too_small = {sizes[gpu.name] for gpu in GPUS if gpu.name in sizes and memory.total > gpu.available()}
            found[path.name] = int(needs[1])
            planned[path.name] = min({*sizes.values()} - too_small)
    assert found == planned and len(found) > 12


def test_what_is_too_large_is_split_over_devices_or_said_to_be(gemma):
    huge = Case(replace(gemma, layers=gemma.layers * 8), QLORA, Batch(1, 1000))
    assert smallest_change(huge, 1, 24 * GIB).endswith(
        "accelerate_config: fsdp with 2 of them, bnb_4bit_quant_storage: bfloat16"
    )
    assert smallest_change(huge, 1, 2 * GIB) is None


def test_processes_split_what_their_config_says():
    kinds = {config.path.stem: sharding_of(config.cluster) for config in read_accelerate_configs()}
    assert kinds == {
        "cpu": "none", "single_gpu": "none", "multi_gpu": "ddp", "multi_node": "ddp", "zero2": "zero2",
        "zero3": "zero3", "fsdp": "fsdp", "t4": "ddp",
    }  # fmt: skip
    configs = {config.path.stem: config.cluster for config in read_accelerate_configs()}
    judge, model, training = read("gemma.yaml")
    config, judge_lora = find_model_config("google/gemma-2-9b-it", None, None)[0], lora()
    shape = measure_shape(config, judge_lora, attention="eager")
    memory = {name: training_memory(shape, setup_of_recipe(config, model, training, cluster), Batch(1, 500))
              for name, cluster in configs.items()}  # fmt: skip
    assert memory["cpu"].context == 0 < memory["single_gpu"].context
    assert memory["fsdp"].weights == memory["single_gpu"].weights / 4
    assert memory["zero2"].weights == memory["multi_gpu"].weights
    assert memory["multi_gpu"].communication == memory["multi_gpu"].gradients
    # DeepSpeed computes in bfloat16 and keeps a float32 copy beside the two moments, of each process's part.
    assert (
        memory["zero2"].optimizer == 12 * shape.num_trained / 4
        and memory["zero2"].gradients == 2 * shape.num_trained / 4
    )


def test_the_table_of_gpus():
    assert len({gpu.name for gpu in GPUS}) == len(GPUS) == 9
    assert all(gpu.source.startswith("https://") and 14 < gpu.gib < 142 for gpu in GPUS)
    assert [gpu.name for gpu in find_gpus(["h100", "t4"])] == ["H100", "T4"]
    with pytest.raises(UserError, match="there is no A100. Did you mean A10"):
        find_gpus(["A100"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a base model, and battles as a data set and as a file."""
    folder = tmp_path_factory.mktemp("plan")
    build_base(folder / "tiny", max_position_embeddings=2000)
    battles = Dataset(pa.Table.from_pylist(make_battles(12), BATTLE_SCHEMA))
    battles.to_parquet(folder / "battles" / "train.parquet")
    rows = [
        {**{k: battle[k] for k in ("id", "prompt", "response_a", "response_b")}, "winner": "model_a"}
        for battle in battles
    ]
    (folder / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


TINY = ["--model_name_or_path", "tiny", "--max_length", "700", "--pad_token", "<|endoftext|>"]


@pytest.fixture
def plan(folder, monkeypatch, capsys):
    """plan.py, in this process: returns what it prints."""
    monkeypatch.chdir(folder)
    return recipe_here("plan", monkeypatch, capsys)


def test_a_plan_as_text(plan):
    options = ["--num_battles", "57000", "--mean_length", "800", "--num_predicted", "25000", "--tta", "swap"]
    output = plan("gemma.yaml", *options, "--price_per_hour", "a100-80=1.5", "L4=0.7")
    assert "google/gemma-2-9b-it, shapes from the bundled configs; 57,000 examples, 800 tokens on average" in output
    assert "largest batch, examples x tokens     1 x 2,200" in output
    assert "training: 57,000 examples, 45,601,400 tokens, 3,563 steps, 1,6" in output
    assert "prediction: 50,000 examples" in output
    lines = [line.split() for line in output.splitlines() if line]
    rows = {words[0]: words for words in lines if words[0] in {gpu.name for gpu in GPUS}}
    assert len(rows) == 9 and rows["A100-80"][2:4] == ["yes", "yes"] and rows["L4"][2:4] == ["no", "yes"]
    hours, cost = map(float, rows["A100-80"][4:6])
    assert cost == pytest.approx(1.5 * hours, abs=0.02)
    assert "  L4, A10, 4090: activation_checkpointing: true\n" in output
    assert re.search(r"^  T4: activation_checkpointing: true; has no", output, re.M)


def test_an_evaluation_that_needs_more_than_the_training_is_named(plan):
    options = ["gemma.yaml", "--num_battles", "9", "--eval_strategy", "epoch", "--gpus", "A100-80"]
    assert "evaluation" not in plan(*options)
    output = plan(*options, "--per_device_eval_batch_size", "256")
    assert "A100-80: fits; evaluation does not fit: per_device_eval_batch_size: 1" in output


def test_a_plan_as_json(folder):
    options = ["llama.yaml", "--accelerate_config", "multi_gpu", "--gpus", "L4", "--price_per_hour", "2", "--json"]
    found = json.loads(recipe("plan.py", *options, "--num_predicted", "100", cwd=folder))
    memory = found["training"]["memory"]
    parts = [value for key, value in memory.items() if key not in ("total", "examples", "length")]
    assert memory["total"] == pytest.approx(sum(parts)) and memory["communication"] == memory["gradients"]
    (gpu,) = found["gpus"]
    assert gpu["trains"] and found["devices"] == 4 and gpu["cost"] == pytest.approx(2 * 4 * gpu["hours"])
    assert found["prediction"]["examples"] == 100 and gpu["prediction_cost"] > 0


def test_lengths_are_counted_with_the_real_tokenizer(plan):
    from_data = plan("smollm2.yaml", *TINY, "--dataset_name", "battles", "--gpus", "T4")
    from_file = plan("smollm2.yaml", *TINY, "--test_file", "votes.jsonl", "--gpus", "T4")
    assert "12 examples of battles, train" in from_data and "12 examples of votes.jsonl" in from_file
    count = [line for text in (from_data, from_file) for line in text.splitlines() if line.startswith("training: ")]
    assert count[0] == count[1] and "(counted)" in from_data
    doubled = plan("smollm2.yaml", *TINY, "--dataset_name", "battles", "--swap", "paired", "--gpus", "T4")
    assert "24 examples of battles" in doubled and "16 x " in doubled


def test_on_a_cpu_there_are_no_gpus(plan):
    output = plan("smollm2.yaml", *TINY, "--accelerate_config", "cpu", "--num_battles", "8")
    assert "CUDA" not in output and "hours" not in output and "1 x 700" in output


def test_attention_is_planned_as_it_trains():
    """On a CPU with eager attention where nothing is said, as sft trains; predictions are the model's own choice."""
    lengths = stated_lengths(4, None, 1024, 1024)
    for options, on_gpu, attention in (([], False, "eager"), ([], True, "sdpa"), (["sdpa"], False, "sdpa")):
        recipe = read("smollm2.yaml", *(word for name in options for word in ("--attn_implementation", name)))
        config = find_model_config("HuggingFaceTB/SmolLM2-135M-Instruct", None, None)[0]
        plan = make_plan(config, *recipe, None, lengths, Request(find_gpus(["T4"]), 0.4, 0.1, {}, on_gpu=on_gpu))
        assert plan.shape.attention == attention
        own = replace(plan.shape, attention="sdpa")
        assert plan.prediction_memory == prediction_memory(own, plan.setup, plan.prediction_batch)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--gpus", "H10"], "gpus: there is no H10. Did you mean H100?"),
        (["--price_per_hour", "cheap"], "price_per_hour: expected a number above 0, or NAME=NUMBER, found 'cheap'"),
        (["--price_per_hour", "A10=-1"], "price_per_hour: expected a number above 0"),
        (["--gpus", "L4", "--price_per_hour", "T4=1"], "price_per_hour: T4 is none of the GPUs L4"),
        (["--utilisation", "1.5"], "utilisation: input should be above 0 and 1 at most"),
        (["--headroom", "1"], "headroom: input should be 0 or more and below 1"),
        (["--num_battles", "0"], "num_battles: input should be 1 or more"),
        (["--mean_length", "701"], "mean_length: 701 tokens, but max_length is 700. Lower it"),
        (["--mean_length", "9", "--test_file", "votes.jsonl"], "give these or data, not both"),
        (["--test_file", "votes.jsonl", "--dataset_name", "battles"], "test_file, dataset_name: give one of the two"),
        (["--dataset_name", "nowhere"], "dataset_name: nowhere is not a data set"),
        (["--test_file", "nowhere.csv"], "nowhere.csv"),
        (["--lora_target_modules", "q_prj", "v_proj"], "the model has no q_prj. Did you mean q_proj?"),
        (["--accelerate_config", "zero3", "--load_in_4bit", "true"], "ZeRO-3 can't split 4-bit weights"),
        (["--accelerate_config", "nowhere"], "accelerate_config: there is no file 'nowhere'"),
        (["--measure", "--accelerate_config", "multi_gpu"], "measure: times one device"),
    ],
)
def test_mistakes_are_named(plan, options, problem):
    with pytest.raises(UserError) as error:
        plan("smollm2.yaml", *TINY, *options)
    assert problem in str(error.value)


def test_several_mistakes_at_once(plan):
    with pytest.raises(UserError) as error:
        plan(
            "smollm2.yaml", *TINY, "--gpus", "H10", "--price_per_hour", "x", "--lora_target_modules", "q_prj", "v_proj"
        )
    assert len(error.value.problems) == 3


def test_steps_are_measured_by_the_real_trainer(folder):
    before = {path for path in folder.rglob("*") if path.is_file()}
    options = [*TINY, "--num_battles", "40", "--mean_length", "60", "--per_device_train_batch_size", "2"]
    output = recipe("plan.py", "smollm2.yaml", *options, "--measure", "--json", "--gpus", "T4", cwd=folder)
    found = json.loads(output[output.index('{\n "model"') :])  # after what the trainer prints, to standard error
    measured = found["measured"]
    assert measured["device"] == "cpu" and len(measured["seconds"]) == len(measured["tokens"]) == 3
    assert min(measured["seconds"]) > 0 and measured["seconds_of_training"] > 0
    assert {path for path in folder.rglob("*") if path.is_file()} == before and Path(folder).is_dir()
