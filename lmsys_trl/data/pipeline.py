"""
The steps from votes to a data set. Each one adds a column to the table of [`store_battles`], or a reason for removal.

    sample -> remove_duplicates -> make_ids_unique
    -> assign_groups -> assign_splits -> assign_folds -> add_swapped_copies
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from ..battle import WINNERS, first_prompt
from ..errors import UserError
from .columns import VOTE_COLUMNS
from .config import PrepareConfig
from .dedup import connected_groups, merged_votes, near_duplicates
from .ledger import Ledger
from .source import Source
from .splits import assign_folds as number_folds
from .splits import held_out_groups, sample_by_hash
from .text_store import CHUNK, take_rows

LARGE_GROUP, MIN_LARGE_GROUP = 0.1, 20  # a fraction of the battles of a source, and battles


def not_removed(battles: pd.DataFrame) -> pd.DataFrame:
    """The battles without a reason for removal."""
    return battles[battles["reason"].isna()]


def sample(battles: pd.DataFrame, sources: list[Source], seed: int) -> None:
    """Remove all but a sample of the battles of each source that has `sample`. Adds the column `reason`."""
    battles["reason"] = None
    for source in sources:
        if source.sample is not None:
            candidates = battles.index[battles["source"] == source.name]
            chosen = sample_by_hash(battles["id"][candidates].tolist(), source.sample, f"sample {seed}")
            _remove(battles, candidates.delete(chosen), f"not in the sample of {source.sample}")


def remove_duplicates(
    battles: pd.DataFrame, sources: list[Source], within_source: Literal["keep", "first", "soft"]
) -> None:
    """
    Remove repeated battles.

    Args:
        battles (`DataFrame`): The battles, with `reason`.
        sources (`list[Source]`): A battle that several sources have is used from the first of them.
        within_source (`str`): What to do with several votes on one item in a source: "keep" all, use the "first", or
            the first with the mean of all votes ("soft").
    """
    candidates = not_removed(battles)
    rank = candidates["source"].map({source.name: i for i, source in enumerate(sources)}).astype(int)
    first_rank = rank.groupby(candidates["item"]).transform("min")
    for i, source in enumerate(sources):
        repeated = candidates.index[(rank > first_rank) & (first_rank == i)]
        _remove(battles, repeated, f"the same battle is in {source.name}")
    candidates = not_removed(battles)
    repeated = candidates.index[candidates["item"].duplicated()]
    if within_source == "first":
        _remove(battles, repeated, "an earlier vote on the same item is used")
    elif within_source == "soft":
        battles.loc[candidates.index, VOTE_COLUMNS] = merged_votes(candidates)
        _remove(battles, repeated, "merged into the first vote on the item")


def make_ids_unique(battles: pd.DataFrame, ledger: Ledger) -> None:
    """Prefix an id that an earlier source has too with the name of its source. The ledger counts them."""
    ids = not_removed(battles)["id"]
    while len(repeated := ids.index[ids.duplicated()]):  # again if a source has an id like another's with its name
        battles.loc[repeated, "id"] = battles["source"][repeated].astype(str) + "/" + battles["id"][repeated]
        for source, count in battles["source"][repeated].value_counts().items():
            if count:
                change = "ids that an earlier source has too, prefixed with the source's name"
                ledger.changes[str(source)][change] += count
        ids = not_removed(battles)["id"]


def assign_groups(battles: pd.DataFrame, texts: pa.Table, threshold: float) -> None:
    """
    Group battles with the same first prompt or similar ones, or in one group of their source, directly or through a
    chain of them.

    Args:
        battles (`DataFrame`): The battles, with `given_group`. Adds the column `group`.
        texts (`Table`): Their texts.
        threshold (`float`): As for [`near_duplicates`]. With 0 only battles with the same first prompt are grouped.
    """
    prompts = not_removed(battles).drop_duplicates("prompt")
    pairs = np.empty((0, 2), dtype=np.int64)
    if threshold:
        pairs = near_duplicates(first_prompts(texts, prompts.index), threshold)
    number = pd.Series(np.arange(len(prompts)), prompts["prompt"].to_numpy())
    kept = not_removed(battles)
    given = kept[kept["given_group"] > 0].sort_values("given_group")
    numbers, same = number[given["prompt"]].to_numpy(), np.diff(given["given_group"].to_numpy()) == 0
    pairs = np.concatenate([pairs, np.stack([numbers[:-1][same], numbers[1:][same]], axis=1)])
    component = connected_groups(len(prompts), pairs)
    # The name of a group is the smallest hash of its prompts.
    names = prompts["prompt"].groupby(component).transform("min").map("{:016x}".format)
    battles["group"] = battles["prompt"].map(pd.Series(names.to_numpy(), prompts["prompt"].to_numpy()))


def first_prompts(texts: pa.Table, rows: pd.Index) -> Iterator[str]:
    """The first prompts of these rows, which are in ascending order."""
    prompts = texts.select(["prompt", "first_prompt"])
    for start in tqdm(range(0, len(rows), CHUNK), desc="Comparing prompts, in thousands", disable=None):
        for battle in take_rows(prompts, rows[start : start + CHUNK].to_numpy()).to_pylist():
            yield first_prompt(battle)


def large_groups(battles: pd.DataFrame, texts: pa.Table) -> list[str]:
    """What is worth knowing of groups that hold more than a tenth of their source: a line each."""
    candidates, lines = not_removed(battles), []
    for source, of_source in candidates.groupby("source", observed=True):
        group, size = of_source["group"].value_counts().head(1).to_dict().popitem()
        if size > max(MIN_LARGE_GROUP, LARGE_GROUP * len(of_source)):
            reason = _joined_by(of_source[of_source["group"] == group], texts)
            lines.append(f"{source}: {size} of {len(of_source)} battles are one group, which is never split: {reason}")
    return lines


def _joined_by(group: pd.DataFrame, texts: pa.Table) -> str:
    """Why the battles of a group belong together, with an example."""
    rows = group.drop_duplicates("prompt").index[:2].sort_values()
    examples = [ascii(prompt if len(prompt) <= 60 else f"{prompt[:60]}...") for prompt in _read_prompts(texts, rows)]
    if len(examples) == 1:
        return f"all have the first prompt {examples[0]}"
    if (group["given_group"] > 0).all():
        return f"the source gives them one group, such as {' and '.join(examples)}"
    return f"their first prompts are similar, such as {' and '.join(examples)} (see near_duplicates)"


def _read_prompts(texts: pa.Table, rows: pd.Index) -> list[str]:
    prompts = take_rows(texts.select(["prompt", "first_prompt"]), rows.to_numpy())
    return [first_prompt(battle) for battle in prompts.to_pylist()]


def assign_splits(battles: pd.DataFrame, texts: pa.Table, config: PrepareConfig) -> None:
    """
    Hold out groups for validation, by the options `validation_*`.

    Args:
        battles (`DataFrame`): The battles, with `group`. Adds the column `split`.
        texts (`Table`): Their texts.
        config (`PrepareConfig`): The options.

    Raises:
        UserError: If there are not enough battles, or ids are unknown.
    """
    battles["split"] = "train"
    if config.validation_ids is not None:
        _hold_out_ids(battles, Path(config.validation_ids))
    else:
        try:
            _hold_out(battles, config)
        except UserError as error:
            raise UserError(["\n".join([*error.problems, *large_groups(battles, texts)])]) from error


def _hold_out(battles: pd.DataFrame, config: PrepareConfig) -> None:
    """Hold out a fraction or a number of battles. Groups with battles of other sources are not held out."""
    candidates, names = not_removed(battles), config.validation_sources
    of_sources = candidates[candidates["source"].isin(names)] if names else candidates
    size: float = config.validation_fraction * len(of_sources)
    if config.validation_size is not None:
        size = config.validation_size
    if not size:
        return
    other_groups = set(candidates.drop(of_sources.index)["group"])
    eligible = of_sources[~of_sources["group"].isin(other_groups)]
    if size >= len(eligible):
        raise UserError(
            f"validation: {size:.0f} battles are wanted and {len(eligible)} are available"
            + (f" whose group is in {', '.join(names)} only" if names else "")
        )
    groups, votes = eligible["group"].to_numpy(str), eligible[VOTE_COLUMNS].to_numpy()
    held_out = held_out_groups(groups, votes, size / len(eligible), config.seed)
    battles.loc[eligible.index[held_out], "split"] = "validation"


def _hold_out_ids(battles: pd.DataFrame, path: Path) -> None:
    """Hold out the battles that a file lists. Other battles of their groups are removed, so that nothing leaks."""
    if not path.is_file():
        raise UserError(f"validation_ids: there is no file {path}")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        ids = {line.strip() for line in lines if line.strip()}
    except UnicodeDecodeError as error:
        raise UserError(f"validation_ids: {path} is not a text file in UTF-8: {error}. Write one id a line") from error
    candidates = not_removed(battles)
    chosen = candidates["id"].isin(ids)
    unknown_ids = sorted(ids - set(candidates["id"]))
    if unknown_ids or not chosen.any():
        examples = f": {', '.join(unknown_ids[:3])}" if unknown_ids else ""
        raise UserError(f"validation_ids: {path} has {len(unknown_ids)} ids that are not in the data{examples}")
    battles.loc[candidates.index[chosen], "split"] = "validation"
    leaking = candidates.index[~chosen & candidates["group"].isin(candidates["group"][chosen])]
    _remove(battles, leaking, "in a group with a battle of the given validation split")


def assign_folds(battles: pd.DataFrame, num_folds: int | None, seed: int) -> None:
    """Number the folds of the training battles. Adds the column `fold`, which is null without folds."""
    battles["fold"] = pd.NA
    if num_folds is not None:
        train = not_removed(battles).query("split == 'train'")
        groups, votes = train["group"].to_numpy(str), train[VOTE_COLUMNS].to_numpy()
        battles.loc[train.index, "fold"] = number_folds(groups, votes, num_folds, seed)


def add_swapped_copies(battles: pd.DataFrame, sources: list[Source], seed: int) -> pd.DataFrame:
    """
    The battles that are not removed, and swapped copies of a sample of each source that has `swap`.

    Returns:
        `DataFrame`: With the column `swapped_from`: the id of the source battle of a swapped copy, else None. Texts
        and votes are swapped by [`write_parquet`].
    """
    originals = not_removed(battles).assign(swapped_from=None)
    sampled = [originals.index[:0]]
    for source in sources:
        if source.swap:
            candidates = originals.index[originals["source"] == source.name]
            size = len(candidates) if source.swap == "all" else source.swap
            sampled.append(candidates[sample_by_hash(originals["id"][candidates].tolist(), size, f"swap {seed}")])
    copies = originals.loc[np.concatenate(sampled)]
    return pd.concat([originals, copies.assign(id=copies["id"] + "-swapped", swapped_from=copies["id"])])


def count_languages(battles: pd.DataFrame, texts: pa.Table) -> pd.Series:
    """The number of battles in each language that a source names, without swapped copies."""
    rows = battles.index[battles["swapped_from"].isna()]
    return texts["language"].take(pa.array(rows)).to_pandas().value_counts()


def summary(battles: pd.DataFrame) -> list[str]:
    """The size and the mean vote of each split, a line each."""
    lines = []
    for name, in_split in battles.groupby("split"):
        fractions = zip(in_split[VOTE_COLUMNS].mean(), WINNERS, strict=True)
        lines.append(
            f"{name}: {len(in_split)} battles, {', '.join(f'{mean:.1%} {winner}' for mean, winner in fractions)}"
        )
    return lines


def _remove(battles: pd.DataFrame, rows: pd.Index, reason: str) -> None:
    battles.loc[rows, "reason"] = reason
