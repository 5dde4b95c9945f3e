"""Every recipe and accelerate config, and each thing that can be wrong with one."""

import json
import re

import pyarrow as pa
import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from datasets import Dataset
from helpers.models import build_base, build_tokenizer
from helpers.run import REPOSITORY, recipe, recipe_here
from torch.distributed.fsdp import StateDictType

from lmsys_trl.data.schema import BATTLE_SCHEMA
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.errors import UserError
from lmsys_trl.preflight.recipe import BUNDLED_CONFIGS, build_without_weights, find_model_config

SHAPES_ONLY = (  # not the complete config.json, and so without its source
    "HuggingFaceTB--SmolLM2-135M-Instruct",
    "google--gemma-2-2b-it",
    "google--gemma-2-9b-it",
    "meta-llama--Llama-3.1-8B-Instruct",
)
ACCELERATE_CONFIGS = sorted((REPOSITORY / "accelerate_configs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [
        ("google/gemma-2-9b-it", 9_241_705_984),
        ("google/gemma-2-2b-it", 2_614_341_888),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384),
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-4B", 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("Qwen/Qwen3-14B", 14_768_307_200),
        ("google/gemma-3-270m-it", 268_098_176),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
    ],
)
def test_the_bundled_configs_make_the_published_models(name, num_parameters):
    config, source = find_model_config(name, None, None)
    assert source == "the bundled configs"
    model = build_without_weights(config)
    assert model.num_parameters() == num_parameters
    assert all(parameter.is_meta for parameter in model.parameters())


def test_every_recipe_with_every_accelerate_config(check):
    output = check()
    assert output.endswith("no problems\n") and "PROBLEM" not in output.replace("NOT CHECKED", "")
    assert output.count("can be started with") == len(list((REPOSITORY / "recipes" / "sft").glob("*.yaml"))) == 22
    assert "trains 35,782,656 parameters in 168 modules, 0.39% of 9,241,705,984" in output
    # By design: FSDP needs another storage of 4-bit weights, ZeRO-3 is for 16 bits, and 16 processes with 2 or 4
    # battles each would be a larger step.
    assert output.count("not with fsdp.yaml, bnb_4bit_quant_storage") == 11
    assert output.count("not with zero3.yaml, load_in_4bit") == 11
    assert output.count("not with multi_node.yaml, battles_per_step: 16 is not a multiple of 64") == 1
    assert output.count("not with multi_node.yaml, battles_per_step: 16 is not a multiple of 32") == 2
    assert "not with multi_node.yaml, battles_per_step: 8 is not a multiple of 16" in output
    assert output.count("  not with") == 26
    assert output.count("NOT CHECKED model_name_or_path: its configuration is not bundled, and not available") == 5


def test_each_bundled_config_says_where_it_was_found():
    recipes = [path.read_text() for path in (REPOSITORY / "recipes" / "sft").glob("*.yaml")]
    for path in BUNDLED_CONFIGS.glob("*.json"):
        assert any(path.stem.replace("--", "/") in recipe for recipe in recipes), path
        if path.stem not in SHAPES_ONLY:
            source = json.loads(path.read_text())["source"]
            assert re.match(r"https://github.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{40}/\S+", source), path


@pytest.mark.parametrize(
    ("name", "change"),
    [("fsdp", {"bnb_4bit_quant_storage": "bfloat16"}), ("zero3", {"load_in_4bit": "false"})],
)
def test_the_commands_that_the_accelerate_configs_open_with(check, name, change):
    path = REPOSITORY / "accelerate_configs" / f"{name}.yaml"
    changes = [word for key, value in change.items() for word in (f"--{key}", value)]
    commands = path.read_text().replace("\\\n#     ", "")
    assert f"recipes/sft.py {' '.join(['gemma.yaml', *changes])}" in commands
    assert f"lmsys-trl sft gemma.yaml --accelerate_config {name} {' '.join(changes)}" in commands
    for config in (str(path), name, path.name):
        options = [*changes, "--accelerate_config", config]
        output = check("gemma.yaml", "--tokenizer", "larger", *options)
        assert output.endswith(f"no problems\nNext: lmsys-trl sft gemma.yaml {' '.join(options)}\n")
    with pytest.raises(UserError, match="accelerate_config: there is no file 'other/"):
        check("gemma.yaml", "--accelerate_config", f"other/{path.name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a base model, a tokenizer that is not its own, and a data set."""
    folder = tmp_path_factory.mktemp("check")
    build_base(folder / "models" / "tiny", max_position_embeddings=2000)
    larger = build_tokenizer()
    larger.add_tokens(["one", "more"])
    larger.save_pretrained(folder / "larger")
    battles = Dataset(pa.Table.from_pylist(make_battles(8), BATTLE_SCHEMA))
    battles.to_parquet(folder / "battles" / "train.parquet")
    return folder


@pytest.fixture
def check(folder, monkeypatch, capsys):
    """check.py, in this process: returns what it prints, with the reason that it exits with."""
    monkeypatch.chdir(folder)
    return recipe_here("check", monkeypatch, capsys)


def changed(name: str, **changes) -> str:
    """A YAML of the repository with changes, written into the working directory."""
    values = yaml.safe_load((REPOSITORY / name).read_text()) | changes
    path = f"changed-{name.split('/')[-1]}"
    with open(path, "w") as file:
        yaml.safe_dump(values, file)
    return path


GEMMA = {"model_name_or_path": "google/gemma-2-9b-it"}
OTHER_FSDP = {"fsdp_version": 2, "fsdp_state_dict_type": "SHARDED_STATE_DICT", "fsdp_auto_wrap_polciy": "NO_WRAP"}
FLASH = {"attn_implementation": "flash_attention_2"}


def test_a_recipe_that_is_right(check):
    arguments = [changed("recipes/sft/gemma.yaml", model_name_or_path="models/tiny", max_length=1024)]
    output = check(*arguments, "--accelerate_config", changed("accelerate_configs/multi_gpu.yaml"))
    assert "\nno problems\nNext: lmsys-trl sft changed-gemma.yaml" in output
    assert "from its folder" in output and "ends with <|im_end|>" in output


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"learning_rte": 1}, "learning_rte: unknown key in changed-gemma.yaml. Did you mean learning_rate?"),
        ({"learning_rate": "high"}, "learning_rate: input should be a valid number"),
        ({"save_total_limit": 1}, "save_total_limit: input should be 2 or more"),
        ({"use_cpu": True, "lora_target_modules": ["q_proj", "lm_head"]}, "trl trains no adapter on lm_head"),
        ({"model_name_or_path": "models/none"}, "its configuration is not bundled, and not available: "),
        ({"lora_target_modules": ["q_proj", "k_prj"]}, "the model has no k_prj. Did you mean k_proj?"),
        ({"lora_target_modules": ["q_proj", "zz"]}, "the model has no zz. Did you mean q_proj, k_proj, v_proj"),
        ({"lora_target_modules": ["x.*y"]}, "pattern of complete names, and x.*y matches none. Write a name as .*q_p"),
        ({"lora_target_modules": ["q_proj"]}, "and q_proj matches none. Write a name as .*q_proj, or give several"),
        ({"lora_target_modules": ["("]}, "lora_target_modules: one entry alone is a pattern of complete names, and ("),
        ({"lora_layers_to_transform": [1, 2, 9]}, "lora_layers_to_transform: no layer 2, 9 among 0 to 1"),
        ({"bnb_4bit_quant_storage": "bf16"}, "Set dtype and bnb_4bit_quant_storage to names such as bfloat16"),
        ({"dtype": "auto"}, "Set dtype and bnb_4bit_quant_storage to names such as bfloat16"),
        ({"lora_r": 0}, "lora_r: input should be 1 or more"),
        ({**GEMMA, "attn_implementation": "sdpa"}, "gemma2 caps its attention logits, which sdpa cannot. Use eager"),
        ({"attn_implementation": "flash_atention_2"}, "there is no flash_atention_2. Did you mean flash_"),
        ({**FLASH, "dtype": "float32", "bf16": False}, "flash_attention_2 computes in 16 bits only. Set dtype"),
        ({"max_length": 2001}, "max_length: 2001 tokens, but the model has positions for 2000. Lower it"),
        ({"inference_max_length": 2400}, "inference_max_length: 2400 tokens, but the model has positions for 2000"),
        ({"max_length": 100}, "max_length: max_length=100 is too short: the fixed parts take 2"),
        ({"pad_token": "<|im_end|>"}, "its pad token (<|im_end|>) must be another one than its end token"),
        ({"tokenizer": "larger"}, "tokenizer larger: has 261 tokens and the model 259. Use the base model's own"),
        ({"tokenizer": "nowhere"}, "tokenizer: there is no folder nowhere"),
        ({"battles_per_step": 18}, "battles_per_step: 18 is not a multiple of 4, the per_device_train_batch_size"),
    ],
)
def test_each_mistake_in_a_recipe_is_caught(check, changes, problem):
    changes = {"model_name_or_path": "models/tiny", "max_length": 1024} | changes
    arguments = [changed("recipes/sft/gemma.yaml", **changes)]
    output = check(*arguments, "--accelerate_config", changed("accelerate_configs/multi_gpu.yaml"))
    assert "PROBLEM" in output and problem in output and output.endswith("1 problem")


@pytest.mark.parametrize(
    ("name", "changes", "overrides", "problem"),
    [
        ("zero3", {}, {"load_in_4bit": "false", "max_tokens_per_batch": "512"}, "DeepSpeed would wait for ever"),
        ("zero2", {}, {"max_tokens_per_batch": "512"}, "FSDP and DeepSpeed would wait for ever. Remove it"),
        ("fsdp", {}, {}, "bnb_4bit_quant_storage: FSDP splits 4-bit weights only if they are stored as dtype"),
        ("fsdp", {}, {"bnb_4bit_quant_storage": "float16"}, "stored as float16. Set bnb_4bit_quant_storage: bfloat16"),
        ("fsdp", {}, {"load_in_4bit": "false", "load_in_8bit": "true"}, "weights in 8 bits can't be split"),
        ("fsdp", {"use_cpu": True}, {"load_in_4bit": "false"}, "use_cpu: accelerate ignores FSDP on a CPU"),
        ("fsdp", {"fsdp_config": {}}, {"load_in_4bit": "false", "loraplus_lr_ratio": "4"}, "FSDP 1 joins A and B"),
        ("zero3", {}, {}, "load_in_4bit: ZeRO-3 can't split 4-bit weights. Use fsdp.yaml or zero2.yaml"),
        ("fsdp", {"fsdp_config": {"fsdp_version": 2}}, {"load_in_4bit": "false"}, "fsdp_state_dict_type: no adapter"),
        ("zero2", {"deepspeed_config": {"zero_stge": 2}}, {}, "unknown key zero_stge. Did you mean zero_stage?"),
        ("zero2", {"deepspeed_config": {"deepspeed_config_file": "x"}}, {}, "deepspeed_config_file: hides its zero"),
        ("zero2", {"deepspeed_config": {"gradient_accumulation_steps": 8}}, {}, "8 in deepspeed_config, 4 by the"),
        ("single_gpu", {"gpu_ids": "all"}, {}, 'gpu_ids: one process would take all GPUs. Set gpu_ids: "0"'),
        ("single_gpu", {"num_processes": 2}, {}, "num_processes: 2, but accelerate starts one"),
        ("multi_gpu", {"gpu_ids": "0,1"}, {}, "gpu_ids: 2 GPUs for 4 processes on a machine. Name one for each"),
        ("multi_gpu", {"gpu_ids": 0}, {}, 'gpu_ids: accelerate expects a text. Write "0"'),
        ("multi_gpu", {"num_processes": -1}, {}, "num_processes: found -1. Set it to a number, of all machines"),
        ("multi_gpu", {"num_machines": "two"}, {}, "num_machines: found 'two'"),
        ("multi_gpu", {"fsdp_config": {"fsdp_version": 2}}, {}, "fsdp_config: accelerate ignores it. Set distributed"),
        ("multi_gpu", {"distributed_type": "MANY_GPUS"}, {}, "accelerate can't read it: 'MANY_GPUS' is not a valid"),
        ("multi_gpu", {"num_proceses": 4}, {}, "accelerate can't read it: The config file at"),
        ("multi_gpu", {"compute_environment": "AMAZON_SAGEMAKER"}, {}, "accelerate can't read it"),
        ("multi_node", {"num_machines": 3}, {}, "16 processes can't be distributed evenly over 3 machines"),
        ("multi_node", {"main_process_ip": None}, {}, "main_process_ip: missing, with 2 machines"),
        ("cpu", {}, FLASH, "attn_implementation: flash_attention_2 needs a GPU"),
        ("cpu", {}, {"attn_implementation": "flex_attention"}, "attn_implementation: flex_attention needs a GPU"),
    ],
)
def test_each_mistake_in_an_accelerate_config_is_caught(check, name, changes, overrides, problem):
    config = changed(f"accelerate_configs/{name}.yaml", **changes)
    small = {"model_name_or_path": "models/tiny", "max_length": "1024"}
    options = [word for key, value in (small | overrides).items() for word in (f"--{key}", value)]
    output = check("gemma.yaml", "--accelerate_config", config, *options)
    assert "PROBLEM" in output and problem in output and output.endswith("1 problem")


def test_all_at_once(folder, check):
    changes = {"learning_rte": 1, "lora_target_modules": ["q_prj", "k_proj"], "lora_layers_to_transform": [99]}
    changes |= {"attn_implementation": "sdpa", "max_length": 9000, "battles_per_step": 3, "save_total_limit": 1}
    config = changed("accelerate_configs/fsdp.yaml", fsdp_config=OTHER_FSDP)
    arguments = [changed("recipes/sft/gemma.yaml", **changes), "--accelerate_config", config, "--lora_dropuot", "0"]
    output = recipe("check.py", *arguments, "--tokenizer", "none", cwd=folder, fails=True)
    keys = ["learning_rte", "lora_dropuot", "lora_target_modules", "lora_layers_to_transform", "attn_implementation"]
    for key in [*keys, "max_length", "save_total_limit", "fsdp_config", "fsdp_state_dict_type"]:
        assert f"PROBLEM {key}: " in output, key
    for key in ("battles_per_step", "bnb_4bit_quant_storage"):
        assert f"PROBLEM with changed-fsdp.yaml, {key}: " in output, key
    assert "12 problems" in output and "Traceback" not in output


@pytest.mark.parametrize("targets", [["nope"], ["nope", "lm_head"], "("])
def test_targets_and_layers_that_the_model_does_not_have(check, targets):
    changes = {"model_name_or_path": "models/tiny", "max_length": 1024, "lora_layers_to_transform": [0, 9]}
    output = check(changed("recipes/sft/gemma.yaml", **changes, lora_target_modules=targets))
    assert "PROBLEM lora_target_modules: " in output and "PROBLEM lora_layers_to_transform: no layer 9" in output
    assert ("trl trains no adapter on lm_head" in output) == ("lm_head" in targets)


def test_a_file_that_is_not_a_recipe(check, folder):
    (folder / "x.yaml").write_text("a: [")
    assert "PROBLEM x.yaml: not a YAML file" in check("x.yaml")
    (folder / "x.yaml").write_text("- a")
    assert "PROBLEM x.yaml: expected lines of `key: value`" in check("x.yaml")
    assert "PROBLEM there is no configuration file" in check("y.yaml")
    with pytest.raises(UserError, match="name the recipe first"):
        check("--tokenizer", "larger")


def test_gemma_with_its_tokenizer(check, assets):
    output = check("gemma.yaml", "--tokenizer", str(assets / "tokenizers" / "gemma2"))
    assert "A is 235280, B is 235305, C is 235288; ends with <eos>, pads with <pad>" in output
    assert output.endswith("\nno problems\nNext: lmsys-trl sft gemma.yaml\n")


@pytest.mark.parametrize("path", ACCELERATE_CONFIGS, ids=lambda path: path.stem)
def test_accelerate_itself_accepts_each_config(path, monkeypatch):
    first_line = path.read_text().partition("\n")[0]
    assert path.stem in ("cpu", "single_gpu") or "Not run " in first_line
    # A free port, since another one may be in use here.
    words = ["--config_file", str(path), "--main_process_port", "0", "script.py"]
    args, config, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    kind = config.distributed_type.value
    assert (args.multi_gpu, args.use_fsdp, args.use_deepspeed) == tuple(
        kind == known for known in ("MULTI_GPU", "FSDP", "DEEPSPEED")
    )
    if kind == "DEEPSPEED":
        args.deepspeed_fields_from_accelerate_config = ""
        environment = prepare_deepspeed_cmd_env(args)[1]
        assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == path.stem[-1]
        assert path.stem != "zero3" or environment["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"
        assert "ACCELERATE_GRADIENT_ACCUMULATION_STEPS" not in environment  # so that the recipe decides
    elif kind != "NO":
        environment = prepare_multi_gpu_env(args)
        assert int(args.nproc_per_node) * args.num_machines == config.num_processes
        if kind == "FSDP":
            for key, value in environment.items():
                if key.startswith("FSDP_"):
                    monkeypatch.setenv(key, value)
            plugin = FullyShardedDataParallelPlugin()
            assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
            assert plugin.state_dict_type == StateDictType.FULL_STATE_DICT
            assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


@pytest.mark.parametrize("name", ["lmsys-1-llama", "lmsys-1-qwen", "wsdm-1-teacher", "wsdm-1", "wsdm-3"])
def test_a_recipe_whose_base_model_is_not_bundled_reads_the_users_own(check, name):
    """All but the model is right, with every accelerate config that should be."""
    output = check(f"{name}.yaml")
    assert "PROBLEM model_name_or_path: its configuration is not bundled" in output and output.endswith("1 problem")
    base = ["--model_name_or_path", "models/tiny", "--max_length", "1000", "--pad_token", "<|endoftext|>"]
    output = check(f"{name}.yaml", *base)
    assert "from its folder" in output and "multi_gpu.yaml" in output and "\nno problems\n" in output
    assert ("not with zero3.yaml, load_in_4bit" in output) == (name != "wsdm-1")
