"""The plots of a report, as PNG bytes."""

import io

import numpy as np
from matplotlib.figure import Figure  # without pyplot: no display, no state

from ..metrics.functions import flips
from .bootstrap import GroupBootstrap

NAMES = ("A", "B", "tie")
COLORS = ("tab:blue", "tab:orange", "tab:green")
SIZE = (3.6, 3.4)  # in inches: four side by side fit a page, and are readable there
NUM_LENGTH_BINS = 8  # with the same number of battles in each


def reliability_diagram(probabilities: np.ndarray, votes: np.ndarray) -> bytes:
    """
    How often each class won where it was predicted with a probability of 0 to 10%, 10 to 20% and so on, and how many
    battles these are. Votes are fractions, of shape `(battles, 3)`.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axes, counts = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for i, (name, color) in enumerate(zip(NAMES, COLORS, strict=True)):
        bins = np.minimum((probabilities[:, i] * 10).astype(int), 9)
        shown = np.unique(bins)
        sizes = np.array([(bins == b).sum() for b in shown])
        predicted = [probabilities[bins == b, i].mean() for b in shown]
        observed = np.array([votes[bins == b, i].mean() for b in shown])
        error = 1.96 * np.sqrt(observed * (1 - observed) / sizes)
        axes.errorbar(predicted, observed, error, color=color, linewidth=1, marker="o", markersize=4, label=name)
        counts.bar(shown / 10 + 0.02 + 0.03 * i, sizes, width=0.03, align="edge", color=color)
    axes.set(ylabel="fraction of votes", xlim=(0, 1), ylim=(0, 1))
    counts.set(xlabel="predicted probability", ylabel="battles")
    axes.legend(title="winner", fontsize="small")
    return png(figure)


def confusion_matrix(probabilities: np.ndarray, votes: np.ndarray) -> bytes:
    """Votes against verdicts (the most probable class), as numbers of battles."""
    counts = votes.T @ np.eye(3)[probabilities.argmax(axis=1)]
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0)
    for row in range(3):
        for column in range(3):
            dark = counts[row, column] > counts.max() / 2
            axes.text(
                column, row, f"{counts[row, column]:.6g}", ha="center", va="center", color="white" if dark else "black"
            )
    axes.set(xticks=range(3), xticklabels=NAMES, yticks=range(3), yticklabels=NAMES, xlabel="verdict", ylabel="vote")
    return png(figure)


def loss_by_length(losses: np.ndarray, num_tokens: np.ndarray, bootstrap: GroupBootstrap) -> bytes:
    """Log loss by bins of length with the same number of battles in each, with 95% intervals."""
    edges = np.unique(np.quantile(num_tokens, np.linspace(0, 1, NUM_LENGTH_BINS + 1)[1:-1], method="lower"))
    bins = np.unique(np.searchsorted(edges, num_tokens, side="left"), return_inverse=True)[1]
    figures = bootstrap.means(losses, bins)
    lengths = [np.median(num_tokens[bins == b]) for b in range(len(figures))]
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.axhline(losses.mean(), color="grey", linestyle=":", label="all battles")
    means = np.array([f["value"] for f in figures])
    axes.errorbar(lengths, means, _error_bars(figures), marker="o", markersize=4, capsize=3)
    axes.set(xlabel="tokens in the example", ylabel="log loss")
    axes.legend(fontsize="small")
    return png(figure)


def flips_plot(as_given: np.ndarray, swapped: np.ndarray) -> bytes:
    """By how much A is more likely to win than B in both orders, with the verdicts that depend on the order in red."""
    flipped = flips(as_given, swapped)
    x, y = (probabilities[:, 0] - probabilities[:, 1] for probabilities in (as_given, swapped))
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot([-1, 1], [-1, 1], color="grey", linestyle=":")
    size = 12 if len(x) < 1000 else 4
    for mask, color, name in ((~flipped, "tab:blue", "same verdict"), (flipped, "tab:red", "verdict flips")):
        label = f"{name}: {mask.mean():.0%}"
        axes.scatter(x[mask], y[mask], s=size, alpha=0.5, color=color, linewidths=0, label=label)
    axes.set(xlabel="P(A) − P(B), order given", ylabel="P(A) − P(B), answers swapped", xlim=(-1, 1), ylim=(-1, 1))
    axes.legend(fontsize="small", loc="upper left", markerscale=10 / size**0.5)
    return png(figure)


def ratings_plot(models: list[dict], judge: str) -> bytes:
    """The models' ratings by annotators and by the judge, with 95% intervals: the rows of [`model_ratings`]."""
    annotators, judged = [row["annotators"] for row in models], [row["judges"][judge] for row in models]
    figure = Figure(figsize=(4.4, 1.4 + 0.3 * len(models)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(models))[::-1]
    for figures, offset, color, label in (
        (annotators, 0.12, "black", "annotators"),
        (judged, -0.12, "tab:blue", "judge"),
    ):
        ratings = [f["value"] for f in figures]
        axes.errorbar(
            ratings,
            places + offset,
            xerr=_error_bars(figures),
            fmt="o",
            markersize=4,
            capsize=2,
            color=color,
            label=label,
        )
    axes.set(yticks=places, ylim=(-0.6, len(models) - 0.4), xlabel="Bradley-Terry rating")
    # A name with a $ is not a formula.
    axes.set_yticklabels([row["model"][:30] for row in models], parse_math=False, fontsize="small")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")
    return png(figure)


def known_plot(probabilities: np.ndarray, known: np.ndarray) -> bytes:
    """Predictions against the probabilities that the votes were drawn from."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    size = 12 if len(known) < 1000 else 4
    for i, (name, color) in enumerate(zip(NAMES, COLORS, strict=True)):
        axes.scatter(known[:, i], probabilities[:, i], s=size, alpha=0.4, color=color, linewidths=0, label=name)
    axes.set(xlabel="known probability", ylabel="predicted probability", xlim=(0, 1), ylim=(0, 1))
    axes.legend(title="winner", fontsize="small", markerscale=10 / size**0.5)
    return png(figure)


def sweep_plot(runs: list[dict]) -> bytes:
    """The log losses of runs, and by how much they are above the best one: the rows of [`sweep_figures`]."""
    figure = Figure(figsize=(7.2, 1.2 + 0.28 * len(runs)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(runs))[::-1]
    for axis, key, label in zip(axes, ("log_loss", "minus_best"), ("log loss", "minus the best"), strict=True):
        shown = [(run[key], place) for run, place in zip(runs, places, strict=True) if run[key]]
        if shown:
            figures, heights = zip(*shown, strict=True)
            values = [f["value"] for f in figures]
            axis.errorbar(values, heights, xerr=_error_bars(list(figures)), fmt="o", markersize=4, capsize=2)
        axis.set_xlabel(label)
        axis.locator_params(axis="x", nbins=5)
        axis.grid(axis="x", alpha=0.3)
    axes[1].axvline(0, color="grey", linestyle=":")
    axes[0].set(yticks=places, ylim=(-0.6, len(runs) - 0.4))
    axes[0].set_yticklabels([run["name"] for run in runs], parse_math=False, fontsize="small")
    return png(figure)


def _error_bars(figures: list[dict]) -> np.ndarray | None:
    """The intervals as matplotlib takes them: distances from the values, of shape `(2, figures)`."""
    if any(f["low"] is None for f in figures):
        return None
    distances = [(f["value"] - f["low"], f["high"] - f["value"]) for f in figures]
    return np.maximum(np.array(distances).T, 0)


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=180)
    return buffer.getvalue()
