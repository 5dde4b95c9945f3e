"""
Which of many battles without votes should people be asked about? Simulates annotation in rounds: a cheap learner is
fitted on the votes so far, chooses the next battles by a strategy, and gets their votes. Says how many votes each
strategy needs to reach the log loss that random choice reaches with half of the budget, on other prompts, with 95%
intervals over seeds.

    python benchmarks/annotate.py --assets DIR --seeds 20 --record

The learner is a multinomial logistic regression on length, style and hashed words (A's minus B's), not a language
model, which would be too slow to train once a round. A seed draws the groups of prompts that are held out, one vote of
each item, and the votes that all strategies begin with. The strategies, the learner and all sizes were fixed before
real votes were looked at, and none was changed afterwards. The rule was fixed too: a strategy gains on a set of votes
if its intervals of the difference in log loss and of the votes saved both exclude zero.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from results import markdown_table, record
from scipy.stats import entropy
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from lmsys_trl.battle import prompt_group, swap_battle, swap_probabilities
from lmsys_trl.config import parse_config
from lmsys_trl.data.dedup import item_key
from lmsys_trl.data.sources import read_battles
from lmsys_trl.data.synthetic import make_battles
from lmsys_trl.metrics.functions import log_losses
from lmsys_trl.predictions.features import FEATURES, feature_matrix, swap_features
from lmsys_trl.terminal import run_recipe

SOURCES = ("mt_bench_human", "tulu_human_eval", "pandalm_votes")
DIFFERENCES = [place for place, name in enumerate(FEATURES) if name.endswith("_difference")]
NUM_GENERATED = 1500
NUM_WORDS = 512  # of the hashed words
NUM_MEMBERS = 5  # of a committee: fits that leave out a fifth of the votes each
TEST_FRACTION = 0.3  # of the groups of prompts
NUM_RESAMPLES = 2000


@dataclass
class AnnotateConfig:
    """How large the simulation is."""

    assets: str | None = field(default=None, metadata={"help": "A folder with data/*.csv, for real votes too."})
    seeds: int = field(default=20, metadata={"help": "Repetitions."})
    batch: int = field(default=40, metadata={"help": "Votes in a round."})
    budget: int = field(default=400, metadata={"help": "Votes in all."})
    record: bool = field(default=False, metadata={"help": "Write the tables to docs/results.md."})


class Votes:
    """
    Items that were voted on, as the learner sees them.

    Args:
        battles (`list[dict]`): Votes; several on one item are kept together.
    """

    def __init__(self, battles: list[dict]):
        items: dict[str, list[dict]] = {}
        for battle in battles:
            key, swapped = item_key(battle)
            items.setdefault(key, []).append(swap_battle(battle) if swapped else battle)
        firsts = [votes[0] for votes in items.values()]
        self.votes = [np.array([battle["vote"] for battle in votes]) for votes in items.values()]
        self.groups = np.unique([prompt_group(battle) for battle in firsts], return_inverse=True)[1]
        style = feature_matrix(firsts)
        words = HashingVectorizer(n_features=NUM_WORDS, ngram_range=(1, 2), alternate_sign=True)
        a, b = (
            words.transform(["\n".join(turn or "" for turn in battle[side]) for battle in firsts])
            for side in ("response_a", "response_b")
        )
        words_difference, sizes = (a - b).toarray(), abs(style[:, DIFFERENCES])
        scale = np.hstack([style, sizes]).std(axis=0) + 1e-9
        center = style.mean(axis=0)
        center[DIFFERENCES] = 0  # so that swapped answers are centred too
        self.features = [
            np.hstack([np.hstack([shown - center, sizes - sizes.mean(axis=0)]) / scale, sign * words_difference])
            for shown, sign in ((style, 1), (swap_features(style), -1))
        ]  # of both orders


class Learner:
    """A multinomial logistic regression on the votes of some items, shown in one order."""

    def __init__(self, votes: Votes, places: np.ndarray, labels: np.ndarray):
        self.votes = votes
        self.model = LogisticRegression(max_iter=200).fit(votes.features[0][places], labels[places])

    def orders(self, places: np.ndarray) -> np.ndarray:
        """Probabilities in both orders, in terms of the first, of shape `(2, places, 3)`."""
        both = []
        for features in self.votes.features:
            probabilities = np.full((len(places), 3), 1e-3)  # of a winner without votes
            probabilities[:, self.model.classes_] += self.model.predict_proba(features[places])
            both.append(probabilities / probabilities.sum(axis=1, keepdims=True))
        return np.stack([both[0], swap_probabilities(both[1])])

    def predict(self, places: np.ndarray) -> np.ndarray:
        return self.orders(places).mean(axis=0)


def disagreement(predictions: np.ndarray) -> np.ndarray:
    """The Jensen-Shannon divergence of several predictions, of shape `(predictions, places, 3)` -> `(places,)`."""
    return entropy(predictions.mean(axis=0), axis=-1) - entropy(predictions, axis=-1).mean(axis=0)


def by_entropy(votes, labels, labelled, places, random) -> np.ndarray:
    return entropy(Learner(votes, labelled, labels).predict(places), axis=1)


def by_margin(votes, labels, labelled, places, random) -> np.ndarray:
    ordered = np.sort(Learner(votes, labelled, labels).predict(places), axis=1)
    return ordered[:, 1] - ordered[:, 2]


def by_orders(votes, labels, labelled, places, random) -> np.ndarray:
    return disagreement(Learner(votes, labelled, labels).orders(places))


def by_committee(votes, labels, labelled, places, random) -> np.ndarray:
    folds = random.permutation(len(labelled)) % NUM_MEMBERS
    members = [Learner(votes, labelled[folds != fold], labels) for fold in range(NUM_MEMBERS)]
    return disagreement(np.stack([member.predict(places) for member in members]))


def by_chance(votes, labels, labelled, places, random) -> np.ndarray:
    return random.random(len(places))


# By name: the score, of which the highest are chosen, and at most how many of a group of prompts in a round.
STRATEGIES: dict[str, tuple[Callable, int | None]] = {
    "random": (by_chance, None),
    "random, one of a group": (by_chance, 1),
    "entropy": (by_entropy, None),
    "margin": (by_margin, None),
    "both orders disagree": (by_orders, None),
    "committee disagrees": (by_committee, None),
    "entropy, one of a group": (by_entropy, 1),
    "committee disagrees, one of a group": (by_committee, 1),
}


def choose(scores: np.ndarray, groups: np.ndarray, number: int, per_group: int | None) -> np.ndarray:
    """The places of the highest scores, of each group at most so many; more of a group only if there is no other."""
    ranked = np.argsort(-scores, kind="stable")
    if per_group is None:
        return ranked[:number]
    seen: dict[int, int] = {}
    earlier = np.empty(len(ranked), dtype=int)  # of the same group, with a higher score
    for place in ranked:
        earlier[place] = seen.get(groups[place], 0)
        seen[groups[place]] = earlier[place] + 1
    return ranked[np.argsort(earlier[ranked] // per_group, kind="stable")][:number]


def simulate(votes: Votes, config: AnnotateConfig, seed: int) -> dict[str, list[float]]:
    """The log loss on other prompts after each round, by strategy."""
    random = np.random.default_rng(seed)
    labels = np.array([choices[random.integers(len(choices))].argmax() for choices in votes.votes])
    num_groups = votes.groups.max() + 1
    is_tested = random.permutation(num_groups) < TEST_FRACTION * num_groups
    test, pool = np.flatnonzero(is_tested[votes.groups]), np.flatnonzero(~is_tested[votes.groups])
    truth = np.stack([votes.votes[place].mean(axis=0) for place in test])
    start = random.permutation(pool)[: config.batch]
    curves = {}
    for name, (score, per_group) in STRATEGIES.items():
        random, labelled, losses = np.random.default_rng([seed, 1]), start, []
        while True:
            losses.append(log_losses(Learner(votes, labelled, labels).predict(test), truth).mean())
            if len(labelled) >= config.budget:
                break
            rest = np.setdiff1d(pool, labelled)
            scores = score(votes, labels, labelled, rest, random)
            labelled = np.append(labelled, rest[choose(scores, votes.groups[rest], config.batch, per_group)])
        curves[name] = losses
    return curves


def votes_needed(curve: np.ndarray, sizes: np.ndarray, target: float) -> float:
    """With how many votes a mean curve first reaches a log loss, between rounds by a line; all of them if never."""
    lowest = np.minimum.accumulate(curve)
    if lowest[-1] > target:
        return float(sizes[-1])
    place = int((lowest <= target).argmax())
    if place == 0:
        return float(sizes[0])
    part = (lowest[place - 1] - target) / (lowest[place - 1] - lowest[place])
    return float(sizes[place - 1] + part * (sizes[place] - sizes[place - 1]))


def compare(curves: dict[str, np.ndarray], sizes: np.ndarray) -> list[list[str]]:
    """
    A row for each strategy.

    Args:
        curves (`dict[str, ndarray]`): Log losses of shape `(seeds, rounds)`, by strategy.
        sizes (`ndarray`): The number of votes after each round.
    """
    random = curves["random"]
    target = random.mean(axis=0)[np.searchsorted(sizes, sizes[-1] / 2)]
    draws = np.random.default_rng(0).integers(0, len(random), (NUM_RESAMPLES, len(random)))

    def saved(chosen: np.ndarray, by_chance: np.ndarray) -> float:
        needed = [votes_needed(curve.mean(axis=0), sizes, target) for curve in (chosen, by_chance)]
        return 1 - needed[0] / needed[1]

    rows = []
    for name, found in curves.items():
        difference = (found - random)[:, 1:].mean(axis=1)  # the first round is the same
        needed = votes_needed(found.mean(axis=0), sizes, target)
        row = [name, f"{found[:, -1].mean():.4f}", f"{needed:.0f}" if needed < sizes[-1] else f"{needed:.0f} or more"]
        if name != "random":
            resampled = [saved(found[draw], random[draw]) for draw in draws]
            row += [
                _interval(difference.mean(), difference[draws].mean(axis=1), "+.4f"),
                _interval(saved(found, random), np.array(resampled), "+.0%"),
            ]
        rows.append(row + [""] * (5 - len(row)))
    return rows


def _interval(value: float, resampled: np.ndarray, form: str) -> str:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def main():
    config, _ = parse_config(AnnotateConfig)
    sets = {"generated battles": make_battles(NUM_GENERATED)}
    if config.assets:
        sets |= {name: read_battles(Path(config.assets) / "data" / f"{name}.csv")[0] for name in SOURCES}
    sizes = np.arange(config.batch, config.budget + 1, config.batch)
    blocks = []
    for name, battles in sets.items():
        start, votes = time.monotonic(), Votes(battles)
        runs = []
        for seed in range(config.seeds):
            runs.append(simulate(votes, config, seed))
            minutes = (time.monotonic() - start) / 60
            print(f"{name}: {seed + 1} of {config.seeds} seeds, {minutes:.1f} minutes", flush=True)
        curves = {strategy: np.array([run[strategy] for run in runs]) for strategy in STRATEGIES}
        header = [
            f"{name}: {len(votes.votes)} items, {votes.groups.max() + 1} groups of prompts",
            f"log loss with {sizes[-1]} votes", "votes to reach random's log loss at half of them",
            "log loss minus random's, mean of the rounds", "votes saved",
        ]  # fmt: skip
        blocks.append(markdown_table(header, compare(curves, sizes)))
        print("", blocks[-1], sep="\n\n", flush=True)
    if config.record:
        blocks.append(f"{config.seeds} seeds, {config.batch} votes a round.")
        record("annotate", *blocks)


if __name__ == "__main__":
    run_recipe(main)
