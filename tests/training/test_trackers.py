"""What trackers get of a training, without a network. Each is skipped where its package is missing."""

from pathlib import Path

import pytest
from helpers.models import make_trainer
from helpers.trackers import tensorboard_events, trackio_rows, wandb_environment, wandb_record

from lmsys_trl.encoding.tokenizer import load_tokenizer
from lmsys_trl.models.judge_file import JudgeFile
from lmsys_trl.training.evaluation import evaluate_at_end
from lmsys_trl.training.run import write_probes

OPTIONS = {"max_steps": 2, "logging_steps": 1, "run_name": "both orders"}
ON_THE_WAY = {"eval_strategy": "steps", "eval_steps": 2}
LOGGED = {"train/loss": 2, "train/tokens_per_second": 2, "eval/log_loss": 1, "eval/accuracy": 1}
STRATEGIES = pytest.mark.parametrize("evaluation", [{}, ON_THE_WAY], ids=["at the end", "on the way"])


def train(base, folder, tracker, evaluation):
    """As recipes/sft.py does, probes included."""
    trainer = make_trainer(base, folder, report_to=[tracker], **OPTIONS, **evaluation)
    evaluate_at_end(trainer)
    trainer.train()
    precision = {"dtype": "float32", "autocast": False, "attn_implementation": "eager", "quantization": None}
    tokenizer = load_tokenizer(str(base))
    judge_file = JudgeFile.describe(tokenizer, base, "owner/tiny", "lmsys-trl-v1", 600, 600, 1.0, precision)
    write_probes(trainer, tokenizer, judge_file)
    return trainer.state.log_history


@STRATEGIES
def test_tensorboard_has_the_scalars(base, tmp_path, monkeypatch, evaluation):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    history = train(base, tmp_path / "run", "tensorboard", evaluation)
    events = tensorboard_events(tmp_path / "events")
    for name, count in LOGGED.items():
        key = name.removeprefix("train/").replace("eval/", "eval_")
        expected = [(entry["step"], entry[key]) for entry in history if key in entry]
        assert len(expected) == count
        scalars = [(event.step, event.value) for event in events.Scalars(name)]
        assert scalars == [(step, pytest.approx(value)) for step, value in expected]


@STRATEGIES
def test_wandb_offline(base, tmp_path, monkeypatch, evaluation):
    wandb = pytest.importorskip("wandb")
    for name, value in wandb_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    train(base, tmp_path / "run", "wandb", evaluation)
    wandb.finish()
    wandb.teardown()  # waits until its process has written the file
    content = wandb_record(tmp_path)
    assert [name for name in (*LOGGED, "both orders") if name.encode() not in content] == [], len(content)
    assert b"test/" not in content  # the scores of the probes, which are nobody's votes


@STRATEGIES
def test_trackio_on_this_machine(base, tmp_path, monkeypatch, evaluation):
    trackio = pytest.importorskip("trackio.utils")  # which reads TRACKIO_DIR when it is imported
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(trackio_rows(Path(trackio.TRACKIO_DIR)))
    train(base, tmp_path / "run", "trackio", evaluation)
    rows = trackio_rows(Path(trackio.TRACKIO_DIR))[before:]
    assert all(any(name in row for row in rows) for name in LOGGED)
    assert not [row for row in rows if "test/" in row]
