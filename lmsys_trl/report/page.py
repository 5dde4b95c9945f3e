"""Figures and plots -> one page that opens without a network."""

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_page(figures: dict, plots: dict[str, bytes], provenance: dict) -> str:
    """
    Args:
        figures (`dict`): As made by [`report_figures`].
        plots (`dict[str, bytes]`): PNG files by their titles.
        provenance (`dict`): What the page says of how it was made.

    Returns:
        `str`: A self-contained HTML page. All values are escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    rows = {
        "judge, order as given": figures,
        "judge, mean of both orders": figures["both_orders"],
        "judge, order as given, cross-fitted temperature": figures["cross_fitted_temperature"],
        "judge, both orders, cross-fitted temperature": figures["both_orders_cross_fitted_temperature"],
        **{f"baseline: {name.replace('_', ' ')}": scores for name, scores in figures["baselines"].items()},
    }
    if "best_possible" in figures:
        rows["best possible: the probabilities that the votes were drawn from"] = figures["best_possible"]
    images = {title: b64encode(png).decode() for title, png in plots.items()}
    return environment.get_template("page.html").render(
        figures=figures, rows=rows, images=images, provenance=provenance
    )
