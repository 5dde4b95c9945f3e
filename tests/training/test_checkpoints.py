import json

import pytest

from lmsys_trl.errors import UserError
from lmsys_trl.terminal import set_up_logging
from lmsys_trl.training.checkpoints import changed_settings, checkpoint_to_resume, write_manifest

SETTINGS = {"learning_rate": 1e-3, "data, train": "abc", "output_dir": "x"}


@pytest.fixture
def run(tmp_path):
    set_up_logging()
    for step in (2, 9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "sub").mkdir(parents=True)
        (folder / "optimizer.pt").write_bytes(bytes(1000))
        (folder / "sub" / "state.json").write_text(json.dumps({"global_step": step}))
        write_manifest(folder, SETTINGS)
    return tmp_path


def test_the_newest_complete_checkpoint_is_taken(run, capsys):
    assert checkpoint_to_resume(run, SETTINGS) == str(run / "checkpoint-10")
    assert checkpoint_to_resume(run / "none", SETTINGS) is None
    (run / "checkpoint-10" / "manifest.json").unlink()
    assert checkpoint_to_resume(run, SETTINGS) == str(run / "checkpoint-9")
    assert "checkpoint-10 is skipped: it is incomplete" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(bytes(999) + b"x"),
        lambda file: file.write_bytes(bytes(999)),
        lambda file: file.unlink(),
    ],
)
def test_a_damaged_checkpoint_is_skipped(run, damage, capsys):
    damage(run / "checkpoint-10" / "optimizer.pt")
    assert checkpoint_to_resume(run, SETTINGS) == str(run / "checkpoint-9")
    assert "is skipped: it is damaged: optimizer.pt changed" in capsys.readouterr().err
    for step in (2, 9):
        (run / f"checkpoint-{step}" / "manifest.json").write_text('{"files": {')
    assert checkpoint_to_resume(run, SETTINGS) is None


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": {}}', '{"files": [], "settings": {}}', "[" * 10**5])
def test_a_damaged_manifest_is_that_of_no_checkpoint(run, manifest):
    (run / "checkpoint-10" / "manifest.json").write_text(manifest)
    (run / "checkpoint-of mine").mkdir()
    assert checkpoint_to_resume(run, SETTINGS) == str(run / "checkpoint-9")


def test_other_settings_or_data_are_refused_by_name(run):
    with pytest.raises(UserError) as caught:
        checkpoint_to_resume(run, {"learning_rate": 2e-3, "data, train": "abd", "output_dir": "y", "new": 1})
    message = str(caught.value)
    assert "learning_rate: 0.001 then, 0.002 now" in message and "data, train: abc then, abd now" in message
    assert "new: None then, 1 now" in message and "output_dir:" not in message.partition("\n")[2]
    assert (
        changed_settings(SETTINGS, {**SETTINGS, "output_dir": "y", "save_steps": 7, "max_tokens_per_batch": 256}) == []
    )


@pytest.mark.parametrize("draft", ["manifest.tmp", ".manifest.json.tmp"])
def test_a_draft_that_a_kill_has_left_is_not_part_of_a_checkpoint(run, draft):
    (run / "checkpoint-10" / draft).write_text("{")
    write_manifest(run / "checkpoint-10", SETTINGS)
    (run / "checkpoint-10" / draft).unlink(missing_ok=True)
    assert checkpoint_to_resume(run, SETTINGS) == str(run / "checkpoint-10")


def test_checkpoints_of_earlier_versions_are_accepted(run):
    """Their manifests have these names of settings, and those that are ignored may be missing or differ."""
    settings = {"processes": 1, "weights": "w", "teachers": [], "earlier adapter": None, "swap": "none"}
    manifest = json.loads((run / "checkpoint-10" / "manifest.json").read_text())
    old = {**settings, "learning_rate": 1e-3, "use_peft": True, "data, train": "abc", "eval_strategy": "no"}
    (run / "checkpoint-10" / "manifest.json").write_text(json.dumps({**manifest, "settings": old}))
    assert checkpoint_to_resume(run, {**old, "eval_strategy": "steps"}) == str(run / "checkpoint-10")
    with pytest.raises(UserError, match="data, train: abc then, abd now"):
        checkpoint_to_resume(run, {**old, "data, train": "abd"})
