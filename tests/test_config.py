from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from trl import ModelConfig

from lmsys_trl.config import parse_config
from lmsys_trl.trainer import TrainingConfig

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


def test_all_mistakes_at_once(tmp_path):
    (tmp_path / "x.yaml").write_text("coutn: 3\nshare: much\nfast: 7\ncount: true\n")
    with pytest.raises(ValueError) as caught:
        parse(tmp_path / "x.yaml", "--swap", "some", "--shar", "1", "--name", "x", "y")
    message = str(caught.value)
    assert message.startswith("8 mistakes:")
    assert "coutn: unknown key in" in message and "Did you mean count?" in message
    assert "shar: unknown key in the command line. Did you mean share?" in message  # no abbreviations
    assert "share: input should be a valid number" in message
    assert "fast: " in message and "count: input should not be true or false" in message
    assert "swap: input should be 'none' or 'all'" in message
    assert "name: " in message
    assert "sources: missing. Files." in message


def test_secrets_are_refused_and_not_repeated():
    with pytest.raises(ValueError, match="Set HF_TOKEN instead") as caught:
        parse_config(TrainingConfig, argv=["--hub_token", "hf_secret"])
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
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
    (tmp_path / "x.yaml").write_text("- a")
    with pytest.raises(ValueError, match="expected lines of `key: value`"):
        parse(tmp_path / "x.yaml")


def test_help(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    assert "--sources  Files." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma.yaml", ("google/gemma-2-9b-it", 2200, 1900, 1.5e-4, 32, 64, 0.1)),
        ("gemma-2-2b.yaml", ("google/gemma-2-2b-it", 2048, 2200, 2e-4, 32, 64, 0.1)),
        ("llama.yaml", ("meta-llama/Llama-3.1-8B-Instruct", 2048, 2400, 1e-4, 32, 32, 30)),
    ],
)
def test_the_recipes_of_the_38th_place(name, expected):
    from recipes.sft import JudgeConfig

    judge, model, training, _ = parse_config(
        JudgeConfig, ModelConfig, TrainingConfig, argv=[str(RECIPES / name), "--use_cpu", "true"]
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
