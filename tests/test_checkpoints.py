import json

import pytest

from lmsys_trl.checkpoints import changed_settings, last_complete_checkpoint, write_manifest

SETTINGS = {"learning_rate": 1e-3, "data, train": "abc", "output_dir": "x"}


@pytest.fixture
def run(tmp_path):
    for step in (2, 9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "sub").mkdir(parents=True)
        (folder / "optimizer.pt").write_bytes(bytes(1000))
        (folder / "sub" / "state.json").write_text(json.dumps({"global_step": step}))
        write_manifest(folder, SETTINGS)
    return tmp_path


def test_the_newest_whole_checkpoint_is_taken(run, capsys):
    assert last_complete_checkpoint(run, SETTINGS) == str(run / "checkpoint-10")
    assert last_complete_checkpoint(run / "none", SETTINGS) is None
    (run / "checkpoint-10" / "manifest.json").unlink()
    assert last_complete_checkpoint(run, SETTINGS) == str(run / "checkpoint-9")
    assert "checkpoint-10 is incomplete and passed over" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(bytes(999) + b"x"),
        lambda file: file.write_bytes(bytes(999)),
        lambda file: file.unlink(),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(run, damage, capsys):
    damage(run / "checkpoint-10" / "optimizer.pt")
    assert last_complete_checkpoint(run, SETTINGS) == str(run / "checkpoint-9")
    assert "damaged and passed over: optimizer.pt changed" in capsys.readouterr().out
    for step in (2, 9):
        (run / f"checkpoint-{step}" / "manifest.json").write_text('{"files": {')
    assert last_complete_checkpoint(run, SETTINGS) is None


def test_other_settings_or_data_are_refused_by_name(run):
    with pytest.raises(ValueError) as caught:
        last_complete_checkpoint(run, {"learning_rate": 2e-3, "data, train": "abd", "output_dir": "y", "new": 1})
    message = str(caught.value)
    assert "learning_rate: 0.001 then, 0.002 now" in message and "data, train: abc then, abd now" in message
    assert "new: None then, 1 now" in message and "output_dir:" not in message.partition("\n")[2]
    assert changed_settings(SETTINGS, {**SETTINGS, "output_dir": "y", "save_steps": 7}) == []


def test_a_draft_that_a_kill_has_left_is_no_part_of_a_checkpoint(run):
    (run / "checkpoint-10" / "manifest.tmp").write_text("{")
    write_manifest(run / "checkpoint-10", SETTINGS)
    assert last_complete_checkpoint(run, SETTINGS) == str(run / "checkpoint-10")
