"""Which battles are the same, and which are similar enough to belong together."""

from collections.abc import Iterable
from itertools import islice

import numpy as np
import pandas as pd
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..battle import first_prompt, swap_probabilities, without_white_space
from .columns import TURN_COLUMNS, VOTE_COLUMNS
from .rows import digest

NUM_PERMUTATIONS = 128
SHINGLE = 5  # characters, so that languages without spaces are compared too
MIN_RECALL = 0.95  # of pairs that are just as similar as the threshold


def prompt_key(battle: dict) -> int:
    """The same number for battles with the same first prompt."""
    return digest(first_prompt(battle))


def item_key(battle: dict) -> tuple[int, bool]:
    """
    What was voted on.

    Returns:
        `tuple[int, bool]`: A number that in this process is the same for battles with the same prompt and the same two
        answers, in either order and ignoring white space. And whether the answers are flipped: of two battles with the
        same number and swapped answers one is flipped.
    """
    prompt, a, b = [without_white_space(battle[column]) for column in TURN_COLUMNS]
    flipped = a > b
    # Not digest, which takes three times as long: nothing of this number is kept.
    return hash((prompt, b, a) if flipped else (prompt, a, b)) % 2**64, flipped


def merged_votes(battles: pd.DataFrame) -> np.ndarray:
    """
    Average the votes on each item.

    Args:
        battles (`DataFrame`): With `item`, `flipped` and [`VOTE_COLUMNS`].

    Returns:
        `ndarray`: For each battle the mean of all votes on its item, in the battle's own order of the answers, of
        shape `(battles, 3)`.
    """
    same_order = pd.DataFrame(swap_where(battles["flipped"], battles[VOTE_COLUMNS].to_numpy()), index=battles.index)
    return swap_where(battles["flipped"], same_order.groupby(battles["item"]).transform("mean").to_numpy())


def near_duplicates(texts: Iterable[str], threshold: float) -> np.ndarray:
    """
    Find pairs of similar texts.

    [MinHash](https://doi.org/10.1109/SEQUEN.1997.666900) signatures of the sets of five characters are compared where
    a band of them is equal. In each band a text is compared with its neighbour only, so that the time does not grow
    with the square of the number of similar texts. [`connected_groups`] joins the pairs.

    Args:
        texts (`Iterable[str]`): The texts.
        threshold (`float`): The minimum estimated Jaccard similarity of a pair, above 0 and below 1.

    Returns:
        `ndarray`: Indices of the texts, of shape `(pairs, 2)`.
    """
    signatures = _signatures(texts)
    bands = _hashed_bands(signatures, _rows_per_band(threshold))
    # Texts with an equal hash here are equal in all bands, so the pairs do not depend on the order of the texts.
    all_bands = np.random.default_rng(1).integers(1, 2**64, len(bands), dtype=np.uint64) @ bands
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for i, band in enumerate(bands):
        candidates = np.flatnonzero(pd.Series(band).duplicated(keep=False))
        # Among many texts with an equal band, sorting by the next bands makes the most similar ones neighbours.
        second, third = bands[(i + 1) % len(bands)], bands[(i + 2) % len(bands)]
        order = candidates[
            np.lexsort((all_bands[candidates], third[candidates], second[candidates], band[candidates]))
        ]
        equal = np.flatnonzero(band[order[1:]] == band[order[:-1]])
        pairs.append(np.sort(np.stack([order[equal], order[equal + 1]], axis=1), axis=1))
    unique_pairs = np.unique(np.concatenate(pairs), axis=0)
    similar = [
        (signatures[chunk[:, 0]] == signatures[chunk[:, 1]]).mean(axis=1) >= threshold
        for chunk in np.array_split(unique_pairs, len(unique_pairs) // 10_000 + 1)
    ]
    return unique_pairs[np.concatenate(similar)]


def connected_groups(num_nodes: int, pairs: np.ndarray) -> np.ndarray:
    """The number of the connected component of each node: texts that a chain of pairs connects are one group."""
    ones = np.ones(len(pairs), dtype=bool)
    return connected_components(coo_array((ones, pairs.T), shape=(num_nodes, num_nodes)), directed=False)[1]


def _hashed_bands(signatures: np.ndarray, rows: int) -> np.ndarray:
    """A number for each band of `rows` values, of shape `(bands, texts)`."""
    factors = np.random.default_rng(0).integers(1, 2**64, rows, dtype=np.uint64)
    starts = range(0, NUM_PERMUTATIONS, rows)
    return np.stack([(signatures[:, start : start + rows] * factors).sum(axis=1, dtype=np.uint64) for start in starts])


def swap_where(flipped: pd.Series, votes: np.ndarray) -> np.ndarray:
    return np.where(flipped.to_numpy()[:, None], swap_probabilities(votes), votes)


def _rows_per_band(threshold: float) -> int:
    """The longest bands, which need the fewest comparisons, that still find similar pairs."""
    for rows in (32, 16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (NUM_PERMUTATIONS // rows) >= MIN_RECALL:
            return rows
    return 1


def _signatures(texts: Iterable[str]) -> np.ndarray:
    chunks = [np.empty((0, NUM_PERMUTATIONS), dtype=np.uint32)]
    texts = (text.lower().ljust(SHINGLE, "\0") for text in texts)
    while chunk := list(islice(texts, 1000)):
        digests = RMinHash.digest_matrix_from_flat_token_hashes(*_shingles(chunk), NUM_PERMUTATIONS, 42)
        chunks.append(np.array(digests.to_rows(), dtype=np.uint32))
    return np.concatenate(chunks)


def _shingles(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all five consecutive characters of all texts in one array, and where each text begins in it."""
    ends = np.cumsum([len(text) for text in texts])
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
    factors = np.random.default_rng(0).integers(1, 2**64, SHINGLE, dtype=np.uint64) | np.uint64(1)
    num_shingles = len(codes) - SHINGLE + 1
    hashes = sum(codes[k : k + num_shingles] * factor for k, factor in enumerate(factors))
    # RMinHash multiplies what it is given, so sums of multiples must be mixed first.
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    hashes ^= hashes >> np.uint64(33)
    across_texts = ends[:-1, None] - np.arange(1, SHINGLE)  # begin in one text and end in the next
    starts = np.append(0, ends - (SHINGLE - 1) * np.arange(1, len(texts) + 1))
    return np.delete(hashes, across_texts), starts.astype(np.uint64)
