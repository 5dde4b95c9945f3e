"""Which battles are predicted in both orders of their answers."""

import numpy as np


def parse_tta(tta: str) -> tuple[str, float]:
    """
    The rule and the share in a `--tta`: "none", "swap", "uncertain:0.33" or "longest:0.1".

    Raises:
        ValueError: If it is none of these.
    """
    rule, colon, share = tta.partition(":")
    if not colon and rule in ("none", "swap"):
        return rule, float(rule == "swap")
    if rule in ("uncertain", "longest"):
        try:
            if 0 < float(share) <= 1:
                return rule, float(share)
        except ValueError:
            pass
    raise ValueError(
        f"tta: {tta!r} is none of none, swap, uncertain:SHARE and longest:SHARE, with a share above 0 and at most 1"
    )


def second_order(tta: str, probabilities: np.ndarray, num_tokens: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """
    Which battles get a second forecast, with the answers exchanged.

    `uncertain` takes those whose largest probability is smallest (the first place of the WSDM Cup gave a second order
    to a third), `longest` those with the most tokens (the 38th place of LMSYS gave it to a tenth).

    Args:
        tta (`str`): As for [`parse_tta`].
        probabilities (`ndarray`): In the order given, of shape `(battles, 3)`.
        num_tokens (`ndarray`), ids (`ndarray`): Of each battle.

    Returns:
        `ndarray`: A truth value for each battle.
    """
    rule, share = parse_tta(tta)
    if rule == "longest":
        return largest(num_tokens, ids, share)
    if rule == "uncertain":
        # Rounded, so that equal battles stay equal in whatever batches they were computed.
        return largest(-probabilities.max(axis=1).round(6), ids, share)
    return np.full(len(ids), rule == "swap")


def largest(values: np.ndarray, ids: np.ndarray, share: float) -> np.ndarray:
    """The share of battles with the largest values, as truth values. Ties go by id, not by place in the file."""
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.lexsort((ids, -np.asarray(values)))[: round(share * len(values))]] = True
    return chosen
