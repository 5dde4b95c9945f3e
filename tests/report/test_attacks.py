import json

import numpy as np
import pytest
from helpers.models import build_judge
from helpers.run import recipe
from helpers.votes import write_votes

from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.report.attacks import ATTACKS, attack_battle

BATTLE = {"id": "1", "prompt": ["p", "q"], "response_a": ["a", "c"], "response_b": ["b", None], "vote": [1, 0, 0]}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_changes_the_last_turn_of_the_loser(name):
    for loser, (column, other) in enumerate((("response_a", "response_b"), ("response_b", "response_a"))):
        attacked = attack_battle(BATTLE, loser, ATTACKS[name])
        assert attacked[other] == BATTLE[other] and attacked["prompt"] == BATTLE["prompt"]
        assert attacked[column][0] == BATTLE[column][0] and len(attacked[column][1]) > 1
        assert (BATTLE[column][1] or "") in attacked[column][1] and attacked["vote"] is None
        harmless = attack_battle(BATTLE, loser, ATTACKS[name], is_harmless=True)
        assert len(harmless[column][1]) == len(attacked[column][1])
        assert BATTLE[column] != harmless[column] and harmless[column][0] == BATTLE[column][0]


def test_attacks_in_a_report(base, tmp_path):
    judge_folder = build_judge(base, tmp_path / "judge")
    battles = make_battles(12)
    write_votes(tmp_path / "votes.csv", battles)
    options = ["--adapter", judge_folder, "--model_name_or_path", base, "--test_file", "votes.csv"]
    output = recipe("validate.py", *options, "--output_dir", "report", "--attack", "heading", "length", cwd=tmp_path)
    assert "answers that lose" in output and "heading" in output
    figures = json.loads((tmp_path / "report" / "metrics.json").read_text())
    (attacks,) = figures["attacks"].values()
    assert list(attacks) == ["heading", "length"]
    for attack in attacks.values():
        assert set(attack) == {"moved", "shift", "moved_by_harmless", "shift_by_harmless"}
        assert all(np.isfinite(figure["value"]) for figure in attack.values())
    assert "verdicts moved" in (tmp_path / "report" / "report.html").read_text()
    output = recipe("validate.py", *options, "--output_dir", "other", "--attack", "bribe", cwd=tmp_path, fails=True)
    assert "attack: there is no bribe. There are all, order" in output
