"""Test-time augmentation: which battles are predicted in both orders of their answers."""

import numpy as np

from ..errors import UserError


def check_tta(tta: str) -> list[str]:
    """Problems with a `--tta`."""
    try:
        parse_tta(tta)
    except UserError as error:
        return error.problems
    return []


def parse_tta(tta: str) -> tuple[str, float]:
    """
    The rule and the fraction in a `--tta`: "none", "swap", "uncertain:0.33" or "longest:0.1".

    Raises:
        UserError: If it is none of these.
    """
    rule, colon, fraction = tta.partition(":")
    if not colon and rule in ("none", "swap"):
        return rule, float(rule == "swap")
    if rule in ("uncertain", "longest"):
        try:
            if 0 < float(fraction) <= 1:
                return rule, float(fraction)
        except ValueError:
            pass
    raise UserError(
        f"tta: expected none, swap, uncertain:FRACTION or longest:FRACTION, with a fraction above 0 and at most 1, "
        f"found {tta!r}"
    )


def select_second_order(tta: str, probabilities: np.ndarray, num_tokens: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """
    Which battles get a second prediction, with the answers swapped.

    `uncertain` selects those whose largest probability is smallest (the first place of the WSDM Cup gave a second
    order to a third), `longest` those with the most tokens (the reference solution gave it to a tenth).

    Args:
        tta (`str`): As for [`parse_tta`].
        probabilities (`ndarray`): In the order given, of shape `(battles, 3)`.
        num_tokens (`ndarray`), ids (`ndarray`): Of each battle.

    Returns:
        `ndarray`: A boolean mask of shape `(battles,)`.
    """
    rule, fraction = parse_tta(tta)
    if rule == "longest":
        return top_fraction(num_tokens, ids, fraction)
    if rule == "uncertain":
        # Rounded, so that equal battles stay equal in whatever batches they were computed.
        return top_fraction(-probabilities.max(axis=1).round(6), ids, fraction)
    return np.full(len(ids), rule == "swap")


def top_fraction(values: np.ndarray, ids: np.ndarray, fraction: float) -> np.ndarray:
    """A boolean mask of the fraction with the largest values. Ties are broken by id, not by place in the file."""
    mask = np.zeros(len(values), dtype=bool)
    mask[np.lexsort((ids, -np.asarray(values)))[: round(fraction * len(values))]] = True
    return mask
