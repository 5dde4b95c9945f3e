"""Which battles get a second prediction, with the answers swapped."""

import numpy as np
import pytest

from lmsys_trl.predictions.tta import check_tta, parse_tta, select_second_order


def test_equal_battles_are_selected_by_id():
    equal = np.full((4, 3), 1 / 3) + np.array([[0], [1e-9], [-1e-9], [0]])
    mask = select_second_order("uncertain:0.5", equal, np.ones(4), np.array(list("dcba")))
    assert list(mask) == [False, False, True, True]


def test_rules():
    assert parse_tta("swap") == ("swap", 1) and parse_tta("none") == ("none", 0)
    assert parse_tta("uncertain:0.33") == ("uncertain", 0.33) and not check_tta("longest:1")
    for wrong in ("twice", "none:0.5", "uncertain", "longest:0", "longest:2", "uncertain:x"):
        with pytest.raises(ValueError, match="tta: expected none, swap"):
            parse_tta(wrong)
        (problem,) = check_tta(wrong)
        assert problem.endswith(f"found {wrong!r}")
