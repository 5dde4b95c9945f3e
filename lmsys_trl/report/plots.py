"""The plots of a report, as PNG bytes."""

import io

import numpy as np
from matplotlib.figure import Figure  # without pyplot: no display, no state

NAMES = ("A", "B", "tie")


def reliability_diagram(probabilities: np.ndarray, labels: np.ndarray) -> bytes:
    """How often each class came true where it was forecast with a probability of 0 to 10%, 10 to 20% and so on."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for i, (name, color) in enumerate(zip(NAMES, ("tab:blue", "tab:orange", "tab:green"), strict=True)):
        bins = np.minimum((probabilities[:, i] * 10).astype(int), 9)
        shown = np.unique(bins)
        forecast = [probabilities[bins == b, i].mean() for b in shown]
        observed = [(labels[bins == b] == i).mean() for b in shown]
        sizes = [8 + 200 * (bins == b).mean() for b in shown]
        axes.plot(forecast, observed, color=color, linewidth=1)
        axes.scatter(forecast, observed, s=sizes, color=color, label=name, zorder=2)
    axes.set(xlabel="forecast probability", ylabel="share of votes", xlim=(0, 1), ylim=(0, 1))
    axes.legend(title="winner")
    return png(figure)


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> bytes:
    """Votes against verdicts (the most probable class), as numbers of battles."""
    counts = np.zeros((3, 3), dtype=int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    for row in range(3):
        for column in range(3):
            dark = counts[row, column] > counts.max() / 2
            axes.text(column, row, counts[row, column], ha="center", va="center", color="white" if dark else "black")
    axes.set(xticks=range(3), xticklabels=NAMES, yticks=range(3), yticklabels=NAMES, xlabel="verdict", ylabel="vote")
    return png(figure)


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
