"""The templates of cards."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

_CELL = str.maketrans({"\n": " ", "\r": " ", "|": "\\|", "<": "&lt;"})


def card_template(name: str) -> Template:
    """The template of a card, a file beside this module. Its filter `cell` makes any text fit into a table."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["cell"] = lambda text: str(text).translate(_CELL)
    return environment.get_template(name)
