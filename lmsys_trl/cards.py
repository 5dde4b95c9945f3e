"""The templates of cards."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def card_template(name: str) -> Template:
    """A card's text; its filter `cell` makes any text fit for a table."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["cell"] = lambda text: str(text).translate({10: " ", 13: " ", 124: "\\|", 60: "&lt;"})
    return environment.get_template(name)
