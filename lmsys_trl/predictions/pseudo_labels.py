"""Predictions of several judges -> those that are sure enough to stand for votes."""

from hashlib import sha256

import numpy as np
import pandas as pd

from .table import PROBABILITIES, best_order


def choose_pseudo_labels(
    tables: list[pd.DataFrame], min_confidence: float, balance: bool
) -> tuple[pd.DataFrame, dict[str, int]]:
    """
    Choose battles on which judges agree, each with at least some confidence, as the reference solution did.

    Args:
        tables (`list[DataFrame]`): A predictions table for each judge, of the same battles. Of one with both orders
            their mean is taken.
        min_confidence (`float`): The least probability that each judge gives to the winner.
        balance (`bool`): As many battles of each winner as of the rarest one. Which ones depends on their ids alone.

    Returns:
        `tuple[DataFrame, dict[str, int]]`: The mean probabilities of the chosen battles, indexed by id, and how many
        battles were left out for which reason.
    """
    members = [table[table["order"] == best_order(table)].set_index("id")[PROBABILITIES] for table in tables]
    probabilities = np.stack([member.loc[members[0].index].to_numpy() for member in members])  # (judges, battles, 3)
    winners = probabilities.argmax(axis=2)
    agreed = (winners == winners[0]).all(axis=0)
    sure = probabilities.max(axis=2).min(axis=0) >= min_confidence
    chosen = agreed & sure
    reasons = {"the judges disagree": int((~agreed).sum()), "a judge is not sure": int((agreed & ~sure).sum())}
    if balance:
        by_hash = np.argsort([sha256(str(battle_id).encode()).hexdigest() for battle_id in members[0].index])
        places = [[place for place in by_hash if chosen[place] and winners[0, place] == winner] for winner in range(3)]
        rarest = min(map(len, places))
        for surplus in places:
            chosen[surplus[rarest:]] = False
        reasons["another winner is rarer"] = sum(len(found) - rarest for found in places)
    return pd.DataFrame(probabilities.mean(axis=0), members[0].index, PROBABILITIES)[chosen], reasons
