"""What becomes of each battle on its way into a data set. Each step adds a column, or a reason for removal."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from .battle import first_prompt
from .duplicates import VOTE, connected_groups, item_key, merged_votes, near_duplicates, prompt_key
from .splits import assign_folds, held_out_groups, sample_by_hash
from .store import CHUNK, take


def remove(battles: pd.DataFrame, index: pd.Index, reason: str) -> None:
    battles.loc[index, "reason"] = reason


def kept(battles: pd.DataFrame) -> pd.DataFrame:
    return battles[battles["reason"].isna()]


def sample(battles: pd.DataFrame, sizes: dict[str, int], seed: int) -> None:
    """Keep so many battles of each of these sources."""
    for source, size in sizes.items():
        candidates = battles.index[battles["source"] == source]
        taken = sample_by_hash(battles["id"][candidates], size, f"sample {seed}")
        remove(battles, candidates.delete(taken), f"not in the sample of {size}")


def remove_duplicates(battles: pd.DataFrame, names: list[str], within: Literal["keep", "first", "soft"]) -> None:
    """
    Args:
        battles (`DataFrame`): As from [`store_battles`], with `reason`.
        names (`list[str]`): The sources; a battle that several have is kept in that named first.
        within (`str`): What becomes of several votes on one item in a source: "keep" them, keep the "first", or the
            first with the shares of all votes ("soft").
    """
    left = kept(battles)
    rank = left["source"].map({name: i for i, name in enumerate(names)}).astype(int)
    first = rank.groupby(left["item"]).transform("min")
    for i, name in enumerate(names):
        remove(battles, left.index[(rank > first) & (first == i)], f"the same battle is in {name}")
    left = kept(battles)
    if within == "soft":
        battles.loc[left.index, VOTE] = merged_votes(left)
    if within != "keep":
        reason = {
            "first": "an earlier vote on the same item is kept",
            "soft": "merged into the first vote on the item",
        }
        remove(battles, left.index[left["item"].duplicated()], reason[within])


def make_ids_unique(battles: pd.DataFrame) -> dict[str, int]:
    """An id that an earlier source has too gets the name of its source before it. Returns how many, by source."""
    left = kept(battles)
    repeated = left.index[left["id"].duplicated()]
    battles.loc[repeated, "id"] = battles["source"][repeated].astype(str) + "/" + battles["id"][repeated]
    return battles["source"][repeated].value_counts().loc[lambda counts: counts > 0].to_dict()


def group(battles: pd.DataFrame, texts: pa.Table, threshold: float) -> None:
    """
    Name the group of each battle: battles with the same first prompt, or with similar ones, through whatever chain.

    Args:
        battles (`DataFrame`): Gets the column `group`.
        texts (`Table`): The texts.
        threshold (`float`): See [`near_duplicates`]; 0 if first prompts must be equal.
    """
    left = kept(battles)
    prompts = left.drop_duplicates("prompt")
    pairs = np.empty((0, 2), dtype=np.int64)
    if threshold:
        pairs = near_duplicates(first_prompts(texts, prompts.index), threshold)
    component = connected_groups(len(prompts), pairs)
    # The smallest prompt of a group names it.
    names = prompts["prompt"].groupby(component).transform("min").map("{:016x}".format)
    battles["group"] = battles["prompt"].map(pd.Series(names.to_numpy(), prompts["prompt"].to_numpy()))


def first_prompts(texts: pa.Table, index: pd.Index) -> Iterator[str]:
    prompts = texts.select(["prompt"])
    for start in tqdm(range(0, len(index), CHUNK), desc="Comparing prompts, in thousands", disable=None):
        for turns in take(prompts, index[start : start + CHUNK].to_numpy())["prompt"].to_pylist():
            yield first_prompt({"prompt": turns})


def split(battles: pd.DataFrame, share: float | None, size: int | None, sources: list[str] | None, seed: int) -> None:
    """
    Hold out whole groups for validation.

    Args:
        battles (`DataFrame`): With `group`; gets the column `split`.
        share (`float`): Share of the battles (of these sources).
        size (`int`, *optional*): Number of battles, in place of the share.
        sources (`list[str]`, *optional*): Validation is made of groups that are in these sources only.
        seed (`int`): Another seed, another choice.
    """
    battles["split"] = "train"
    left = kept(battles)
    named = left[left["source"].isin(sources)] if sources else left
    wanted = size if size is not None else share * len(named)
    if not wanted:
        return
    eligible = named[~named["group"].isin(set(left.drop(named.index)["group"]))]
    if wanted >= len(eligible):
        raise ValueError(
            f"validation: {wanted:.0f} battles are wanted and {len(eligible)} can be had"
            + (f" whose group is in {', '.join(sources)} only" if sources else "")
        )
    held_out = held_out_groups(
        eligible["group"].to_numpy(str), eligible[VOTE].to_numpy(), wanted / len(eligible), seed
    )
    battles.loc[eligible.index[held_out], "split"] = "validation"


def split_by_ids(battles: pd.DataFrame, ids: set[str], path: Path) -> None:
    """Validation is what an id file says. Other battles of its groups are removed, so that nothing leaks."""
    battles["split"] = "train"
    left = kept(battles)
    chosen = left["id"].isin(ids)
    missing = ids - set(left["id"])
    if missing or not chosen.any():
        raise ValueError(
            f"validation_ids: {path} has {len(missing)} ids that are not in the data: {sorted(missing)[:3]}"
        )
    battles.loc[left.index[chosen], "split"] = "validation"
    leaking = left.index[~chosen & left["group"].isin(left["group"][chosen])]
    remove(battles, leaking, "shares its first prompt with the given validation split")


def fold(battles: pd.DataFrame, num_folds: int | None, seed: int) -> None:
    """Number the folds of the training battles, in the column `fold`."""
    battles["fold"] = pd.NA
    if num_folds is not None:
        train = kept(battles).query("split == 'train'")
        battles.loc[train.index, "fold"] = assign_folds(
            train["group"].to_numpy(str), train[VOTE].to_numpy(), num_folds, seed
        )


def with_swaps(battles: pd.DataFrame, sizes: dict[str, int | str], seed: int) -> pd.DataFrame:
    """The battles that are kept, and samples of these sources a second time, to be written with A and B exchanged."""
    rows = kept(battles).assign(swapped_from=None)
    swapped = [rows.index[:0]]
    for source, size in sizes.items():
        candidates = rows.index[rows["source"] == source]
        size = len(candidates) if size == "all" else size
        swapped.append(candidates[sample_by_hash(rows["id"][candidates], size, f"swap {seed}")])
    twins = rows.loc[np.concatenate(swapped)]
    return pd.concat([rows, twins.assign(id=twins["id"] + "-swapped", swapped_from=twins["id"])])


def contamination(battles: pd.DataFrame, texts: pa.Table, others: list[dict], threshold: float) -> pd.DataFrame:
    """
    Which battles are in the data already?

    Args:
        battles (`DataFrame`): With `prompt`, `item` and `split`.
        texts (`Table`): Their texts.
        others (`list[dict]`): Other battles; votes are not looked at.
        threshold (`float`): As for [`group`].

    Returns:
        `DataFrame`: A row each with `id`, `match` ("same battle", "same first prompt", "similar first prompt" or
        "none") and `splits`, where the match stands.
    """
    left = kept(battles)
    items, prompts, similar = defaultdict(set), defaultdict(set), defaultdict(set)
    for item, prompt, side in zip(left["item"].tolist(), left["prompt"].tolist(), left["split"].tolist(), strict=True):
        items[item].add(side)
        prompts[prompt].add(side)
    unique = left.drop_duplicates("prompt")
    if threshold:
        both = chain(first_prompts(texts, unique.index), map(first_prompt, others))
        component = connected_groups(len(unique) + len(others), near_duplicates(both, threshold))
        for node, prompt in zip(component, unique["prompt"].tolist(), strict=False):
            similar[node] |= prompts[prompt]
    rows = []
    for i, battle in enumerate(others):
        matches = {
            "same battle": items.get(item_key(battle)[0]),
            "same first prompt": prompts.get(prompt_key(battle)),
            "similar first prompt": similar.get(component[len(unique) + i]) if similar else None,
        }
        match = next((name for name, splits in matches.items() if splits), "none")
        rows.append({"id": battle["id"], "match": match, "splits": ", ".join(sorted(matches.get(match, ())))})
    return pd.DataFrame(rows, columns=["id", "match", "splits"])
