import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from trl import ModelConfig

from lmsys_trl.config import _refuse_name, find_yaml, parse_config, read_config
from lmsys_trl.keys import FILE, describe_keys, keys_of
from lmsys_trl.limits import RENAMED, is_hidden
from lmsys_trl.options import MODEL_CONFIG, TRAINING_CONFIG, JudgeConfig
from lmsys_trl.training.config import TrainingConfig

RECIPES = Path(__file__).parent.parent / "recipes"


@dataclass
class Config:
    """A configuration."""

    sources: list[str] = field(metadata={"help": "Files."})
    share: float = 0.2
    count: int = 3
    name: str | None = None
    fast: bool = False
    swap: Literal["none", "all"] = "none"


def parse(*argv):
    return parse_config(Config, argv=[str(word) for word in argv])


def test_the_command_line_wins_over_the_file(tmp_path):
    (tmp_path / "x.yaml").write_text("sources: [a.csv]\nshare: 1e-1\ncount: 5\nfast: true\n")
    config, given = parse(tmp_path / "x.yaml", "--count", "7", "--swap=all")
    assert config == Config(sources=["a.csv"], share=0.1, count=7, fast=True, swap="all")
    assert given == {"sources": ["a.csv"], "share": 0.1, "count": 7, "fast": True, "swap": "all"}
    assert parse("--config", tmp_path / "x.yaml")[0] == Config(sources=["a.csv"], share=0.1, count=5, fast=True)


def test_lists_and_flags():
    assert parse("--sources", "a", "b", "--fast")[0] == Config(sources=["a", "b"], fast=True)
    assert parse("--sources", "a")[0] == Config(sources=["a"])


def test_all_problems_at_once(tmp_path):
    (tmp_path / "x.yaml").write_text("coutn: 3\nshare: much\nfast: 7\ncount: true\n")
    with pytest.raises(ValueError) as caught:
        parse(tmp_path / "x.yaml", "--swap", "some", "--shar", "1", "--name", "x", "y")
    message = str(caught.value)
    assert message.startswith("8 problems:")
    assert "coutn: unknown key in" in message and "Did you mean count?" in message
    assert "shar: unknown key in the command line. Did you mean share?" in message  # no abbreviations
    assert "share: input should be a valid number" in message
    assert "fast: " in message and "count: input should not be true or false" in message
    assert "swap: input should be 'none' or 'all'" in message
    assert "name: " in message
    assert "sources: missing. Files." in message


def test_a_number_that_is_none_is_no_secret(tmp_path):
    (tmp_path / "nan.yaml").write_text("learning_rate: .nan\n")
    with pytest.raises(ValueError, match="learning_rate: input should be a finite number"):
        parse_config(TrainingConfig, argv=[str(tmp_path / "nan.yaml")])


def test_secrets_are_refused_and_not_repeated():
    with pytest.raises(ValueError, match="Set HF_TOKEN instead") as caught:
        parse_config(TrainingConfig, argv=["--hub_token", "hf_secret"])
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sources"], "sources: missing its value on the command line"),
        (["--sources="], "sources: missing its value on the command line"),
        (["--sources", "a", "--name"], "name: missing its value on the command line"),
        (["--sources", "a", "--name", "x", "y"], "name: takes one value in the command line, found"),
        (["--sources", "a", ""], "sources: input should not be empty"),
        (["no.yaml"], "there is no configuration file 'no.yaml'"),
        (["word", "--sources", "a"], "word: expected --key before it"),
        (["--sources", "a", "--sources", "b"], "given twice"),
    ],
)
def test_mistakes_on_the_command_line(argv, message):
    with pytest.raises(ValueError, match=message):
        parse(*argv)


def test_a_file_that_is_no_yaml(tmp_path):
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="not a YAML file"):
        parse(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("count: 1\nshare: 0.1\ncount: 2\n")
    with pytest.raises(ValueError, match="key count is given twice"):  # YAML would keep the last one
        parse(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(ValueError, match="Save it as UTF-8"):
        parse(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("- a")
    with pytest.raises(ValueError, match="expected lines of `key: value`"):
        parse(tmp_path / "x.yaml")


def test_yaml_aliases_are_refused(tmp_path):
    """Nine lines can hold a billion values."""
    laughs = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    path = tmp_path / "laughs.yaml"
    path.write_text(f"a: &a [ha]\n{laughs}")
    with pytest.raises(ValueError, match=r"aliases \(\*name\) are not read"):
        parse_config(Config, argv=[str(path)])


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert (
        "--sources TEXT ...\n      Files. (required)" in out and "--swap {none,all}" in out and "--share NUMBER" in out
    )
    assert "(default: 0.2)" in out and "--fast {true,false}" in out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma.yaml", ("google/gemma-2-9b-it", 2200, 1900, 1.5e-4, 32, 64, 0.1)),
        ("gemma-2-2b.yaml", ("google/gemma-2-2b-it", 2048, 2200, 2e-4, 32, 64, 0.1)),
        ("llama.yaml", ("meta-llama/Llama-3.1-8B-Instruct", 2048, 2400, 1e-4, 32, 32, 30)),
    ],
)
def test_the_recipes_of_the_reference_solution(name, expected):
    judge, model, training, _ = parse_config(
        JudgeConfig, ModelConfig, TrainingConfig, argv=[str(RECIPES / "sft" / name), "--use_cpu", "true"]
    )
    assert expected == (
        model.model_name_or_path,
        training.max_length,
        judge.inference_max_length,
        training.learning_rate,
        model.lora_r,
        model.lora_alpha,
        training.warmup_steps,
    )
    assert model.lora_dropout == 0.05 and model.load_in_4bit
    assert model.lora_target_modules == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 16
    assert training.num_train_epochs == 1 and training.weight_decay == 0.01 and training.seed == 42
    assert judge.temperature == 1.03
    assert not training.activation_checkpointing and not training.gradient_checkpointing


def test_keys_with_problems_keep_their_defaults(tmp_path):
    (tmp_path / "x.yaml").write_text("sources: [a.csv]\ncoutn: 3\n")
    parsed = read_config(Config, argv=[str(tmp_path / "x.yaml"), "--share", "much", "--count", "4"])
    assert parsed.configs == (Config(sources=["a.csv"], count=4),) and parsed.given == {
        "sources": ["a.csv"],
        "count": 4,
    }
    assert [problem.partition(":")[0] for problem in parsed.problems] == ["coutn", "share"]
    parsed = read_config(Config, argv=["--count", "4"])
    assert parsed.configs == (Config(sources=None, count=4),) and parsed.problems == ["sources: missing. Files."]


def test_problems_of_several_keys_together_are_reported():
    problem = "battles_per_step: 3 is not a multiple of 2"
    with pytest.raises(ValueError, match=problem):
        argv = ["--battles_per_step", "3", "--per_device_train_batch_size", "2", "--use_cpu", "--bf16", "false"]
        parse_config(TRAINING_CONFIG, argv=argv)


def test_the_inherited_keys_are_those_of_the_installed_libraries():
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(describe_keys())), "run python -m lmsys_trl.keys"


@pytest.mark.parametrize(("name", "cls"), [(MODEL_CONFIG, ModelConfig), (TRAINING_CONFIG, TrainingConfig)])
def test_values_are_checked_alike_before_and_after_the_import(name, cls):
    """Both accept the same values, and report a typo or a wrong type in the same words."""
    assert list(keys_of([name])) == list(keys_of([cls]))
    argv = (
        ["--dtype", "float32"] if cls is ModelConfig else ["--learning_rate", "1e-4", "--report_to", "none", "wandb"]
    )
    before, after = (read_config(c, argv=argv, load=False) for c in (name, cls))
    assert before.given == after.given and not before.problems and not after.problems
    wrong = ["--lora_r", "x"] if cls is ModelConfig else ["--max_steps", "x", "--learning_rat", "1", "--bf16", "7"]
    before, after = (read_config(c, argv=wrong, load=False).problems for c in (name, cls))
    assert before == after and len(before) == len(wrong) / 2


def test_common_keys_come_first_in_the_help_and_all_on_demand():
    from lmsys_trl.help import COMMON_KEYS, render_help

    classes = (JudgeConfig, MODEL_CONFIG, TRAINING_CONFIG)
    brief, everything = (render_help(RECIPES / "sft.py", classes, every) for every in (False, True))
    assert all(f"  --{key} " in brief for key in COMMON_KEYS) and brief.count("\n  --") <= len(COMMON_KEYS) + 2
    assert all((f"  --{name} " in everything) != is_hidden(name) for name in keys_of(classes))
    assert "--learning_rate NUMBER" in everything and "--loss {answer,letters}" in everything


@dataclass
class NewNames:
    """Keys that had other names."""

    adapter: list[str]
    validation_fraction: float = 0.2


def test_old_names_are_refused_with_the_new_one():
    argv = ["--adapters", "a", "b", "--validation_share", "0.1", "--rows", "all"]
    problems = read_config(NewNames, argv=argv).problems
    assert problems == [
        "adapters: was renamed. Use adapter in the command line",
        "validation_share: was renamed. Use validation_fraction in the command line",
        "rows: unknown key in the command line. --help lists the keys",  # no key of this recipe
    ]
    assert set(RENAMED.values()).isdisjoint(RENAMED)


def test_a_yaml_of_another_recipe_is_refused_by_its_recipe(tmp_path):
    def read(verb, name):
        return find_yaml(name, RECIPES / f"{verb}.py")

    assert read("sft", "gemma.yaml") == read("check", "gemma.yaml") == read("preview", "gemma.yaml")
    assert read("ensemble", "submission-1.yaml").parent.name == "ensemble"
    with pytest.raises(ValueError, match="smollm2.yaml is for lmsys-trl sft"):
        read("prepare", "smollm2.yaml")
    with pytest.raises(ValueError, match="arena.yaml is for lmsys-trl prepare"):
        read("check", "arena.yaml")
    with pytest.raises(ValueError, match="no configuration file 'gemmma.yaml'. Did you mean gemma.yaml?"):
        read("sft", "gemmma.yaml")
    with pytest.raises(ValueError, match="there is no configuration file"):
        find_yaml(str(tmp_path), RECIPES / "sft.py")


def test_a_key_of_the_same_family_is_meant_rather_than_one_that_looks_alike():
    said = _refuse_name("lora_rank", dict.fromkeys(["local_rank", "lora_r", "lora_alpha"]), "mine.yaml")
    assert said == "unknown key in mine.yaml. Did you mean lora_r?"
