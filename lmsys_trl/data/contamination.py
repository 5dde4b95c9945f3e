"""Which battles of other files, such as a test set, are in the data already."""

from collections import defaultdict
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa

from ..battle import first_prompt
from .config import PrepareConfig
from .dedup import connected_groups, item_key, near_duplicates, prompt_key
from .pipeline import first_prompts, not_removed
from .source import Source
from .sources import read_battles

NO_MATCH = "none"


def write_contamination(
    config: PrepareConfig, battles: pd.DataFrame, texts: pa.Table, folder: Path
) -> dict[str, dict[tuple[str, str], int]]:
    """
    Write a CSV file with the match of each battle, for each file in `contamination`.

    Args:
        config (`PrepareConfig`): Says which files, and with which threshold. Votes may be missing.
        battles, texts: As for [`find_contamination`].
        folder (`Path`): The new folder, if there are any files.

    Returns:
        `dict[str, dict]`: For each file's name the number of battles by `match` and `splits`.
    """
    counts: dict[str, dict[tuple[str, str], int]] = {}
    for path in config.contamination or []:
        source = Source(path, format=config.format, columns=config.columns, votes=config.votes)
        others, _ = read_battles(source, lenient=True)
        matches = find_contamination(battles, texts, others, config.near_duplicates)
        folder.mkdir(exist_ok=True)
        matches.to_csv(folder / f"{Path(path).stem}.csv", index=False)
        counts[Path(path).name] = matches.groupby(["match", "splits"]).size().to_dict()
    return counts


def find_contamination(battles: pd.DataFrame, texts: pa.Table, others: list[dict], threshold: float) -> pd.DataFrame:
    """
    Find the nearest match of other battles in the data.

    Args:
        battles (`DataFrame`): The data: `prompt`, `item`, `split` and `reason`.
        texts (`Table`): Its texts.
        others (`list[dict]`): The other battles. Their votes are not used.
        threshold (`float`): As for [`assign_groups`].

    Returns:
        `DataFrame`: For each of the other battles `id`, `match` ("same battle", "same first prompt", "similar first
        prompt" or "none") and `splits`, the splits that have the match.
    """
    in_data = not_removed(battles)
    splits_of_item: dict[int, set[str]] = defaultdict(set)
    splits_of_prompt: dict[int, set[str]] = defaultdict(set)
    splits_of_group: dict[int, set[str]] = defaultdict(set)
    for item, prompt, split in zip(*(in_data[name].tolist() for name in ("item", "prompt", "split")), strict=True):
        splits_of_item[item].add(split)
        splits_of_prompt[prompt].add(split)
    prompts = in_data.drop_duplicates("prompt")
    groups: list[int] = []
    if threshold:
        all_prompts = chain(first_prompts(texts, prompts.index), map(first_prompt, others))
        num_prompts = len(prompts) + len(others)
        groups = connected_groups(num_prompts, near_duplicates(all_prompts, threshold)).tolist()
        for group, prompt in zip(groups, prompts["prompt"].tolist(), strict=False):
            splits_of_group[group] |= splits_of_prompt[prompt]
    rows = []
    for i, battle in enumerate(others):
        candidates = {
            "same battle": splits_of_item.get(item_key(battle)[0], set()),
            "same first prompt": splits_of_prompt.get(prompt_key(battle), set()),
            "similar first prompt": splits_of_group.get(groups[len(prompts) + i], set()) if groups else set(),
        }
        match = next((name for name, splits in candidates.items() if splits), NO_MATCH)
        rows.append({"id": battle["id"], "match": match, "splits": ", ".join(sorted(candidates.get(match, ())))})
    return pd.DataFrame(rows, columns=["id", "match", "splits"])
