"""The first paragraph of a report."""

import pytest

from lmsys_trl.report.conclusion import best_first, conclusion


def figure(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def figures_with(differences, flip_rate=None, log_losses=None, num_groups=50):
    """Figures with what the paragraph is made of, from `judge, baseline -> difference`."""
    names = list(dict.fromkeys(judge for judge, _ in differences))
    position = flip_rate and {"flip_rate": flip_rate}
    return {
        "num_battles": 1200,
        "num_groups": num_groups,
        "judges": {
            name: {"log_loss": figure((log_losses or {}).get(name, 1.0)), "position": position} for name in names
        },
        "baselines": {baseline: {} for _, baseline in differences if baseline not in names},
        "differences": [
            {"judge": judge, "baseline": baseline, "log_loss": difference}
            for (judge, baseline), difference in differences.items()
        ],
    }


@pytest.mark.parametrize(
    "difference, relation, size",
    [
        (figure(-0.1, -0.15, -0.05), "better", "0.100 lower (95% interval 0.050 to 0.150)"),
        (figure(0.1, 0.05, 0.15), "worse", "0.100 higher (95% interval 0.050 to 0.150)"),
        (
            figure(-0.01, -0.03, 0.02),
            "not shown to be better",
            "0.010 lower (95% interval 0.030 lower to 0.020 higher)",
        ),
        (
            figure(0.01, 0.0, 0.02),
            "not shown to be better",
            "0.010 higher (95% interval 0.000 lower to 0.020 higher)",
        ),
        (figure(-0.01), "not shown to be better", "0.010 lower, and there are too few prompts for an interval"),
    ],
)
def test_a_judge_against_guessing(difference, relation, size):
    assert conclusion(figures_with({("j", "class_prior"): difference}), str) == (
        f"On 1,200 battles j has a log loss of 1.000. It is {relation} than guessing by how frequent each vote is "
        f"(the class prior): its log loss is {size}. It was not compared with a logistic regression on style (length "
        "and formatting), since no texts are known. How often its verdicts flip when the answers are swapped is not "
        "known."
    )


def test_style_and_flips():
    differences = {
        ("j", "class_prior"): figure(-0.2, -0.3, -0.1),
        ("j", "logistic_regression"): figure(0.2, 0.1, 0.3),
    }
    text = conclusion(figures_with(differences, figure(0.125, 0.1, 0.15)), str)
    assert "It is worse than a logistic regression on style (length and formatting): its log loss is 0.200 h" in text
    assert text.endswith("Swapping the answers flips 12.5% of its verdicts (95% interval 10.0% to 15.0%).")
    few = conclusion(figures_with(differences, figure(0.5), num_groups=3), str)
    assert "flips 50.0% of its verdicts. These battles have only 3 different prompts: the intervals say little." in few


def test_several_judges():
    """The best one is compared with the next, in whichever order the figures have them."""
    better, unclear, worse = figure(-0.3, -0.4, -0.2), figure(-0.01, -0.1, 0.1), figure(0.1, 0.05, 0.2)
    differences = {
        ("d", "class_prior"): worse, ("c", "class_prior"): unclear, ("b", "class_prior"): better,
        ("a", "class_prior"): better, ("a", "b"): figure(-0.02, -0.04, -0.01), ("c", "a"): worse, ("d", "a"): worse,
    }  # fmt: skip
    figures = figures_with(differences, log_losses={"a": 0.8, "b": 0.82, "c": 0.9, "d": 1.2})
    assert best_first(figures) == ["a", "b", "c", "d"]
    text = conclusion(figures, str)
    assert text.startswith(
        "Of 4 judges on 1,200 battles a has the lowest log loss, 0.800. It is better than guessing "
    )
    assert "It is better than the next judge, b: its log loss is 0.020 lower (95% interval 0.010 to 0.040)." in text
    assert text.endswith(
        "b is better than guessing. c is not shown to be better than guessing. d is worse than guessing."
    )
    del figures["differences"][4]
    figures["differences"].append({"judge": "b", "baseline": "a", "log_loss": figure(0.02, -0.01, 0.05)})
    text = conclusion(figures, lambda name: f"<{name}>")
    assert (
        "It is not shown to be better than the next judge, <b>: its log loss is 0.020 lower (95% interval 0.050 lower "
        "to 0.010 higher)." in text
    )
