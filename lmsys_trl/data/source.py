"""A source of votes, as a YAML or a command line names it. Imports nothing heavy, so that `--help` is fast."""

from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from ..errors import UserError


@dataclass
class Source:
    """
    Votes from one place.

    Args:
        path (`str`): A file, an archive, a folder, `hub:owner/name[@revision]`, `kaggle:owner/name` (a data set) or
            `kaggle:name` (a competition).
        name (`str`): Its name in the data set. Default: the file's name without suffix, or what follows `hub:` or
            `kaggle:`.
        file (`str`, *optional*): Which file of an archive, folder or repository, such as `train*.parquet`.
        format (`str`, *optional*): Default: the first one whose columns the file has.
        blank_winner (`str`, *optional*): What a blank vote means: a "tie", or "drop" the row.
        sample (`int`, *optional*): Use only this many of its battles.
        swap (`int` or `str`, *optional*): Add swapped copies of this many of its battles, or of "all".
        license (`str`, *optional*): Such as `cc-by-4.0`. Default: that of its card, if it comes from the Hub.
    """

    path: str
    name: str = ""
    file: str | None = None
    format: Literal["lmsys", "wsdm", "lmsys_trl", "chatbot_arena", "preference"] | None = None
    blank_winner: Literal["tie", "drop"] | None = None
    sample: int | None = None
    swap: int | Literal["all"] | None = None
    license: str | None = None

    def __post_init__(self):
        if not self.name:
            scheme, _, name = self.path.rpartition(":")
            self.name = name.split("@")[0] if scheme in ("hub", "kaggle") else Path(self.path).name.split(".")[0]

    def given(self) -> dict:
        """The values that are set."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def _parse_source(value):
    """What a YAML's `sources` may list: a path, or the keys of a [`Source`]."""
    if isinstance(value, str):
        return {"path": value}
    names = [field.name for field in fields(Source)]
    for key in value if isinstance(value, dict) else ():
        if key not in names:
            nearest = get_close_matches(str(key), names, n=1) or [", ".join(names)]
            raise UserError(f"unknown key {key}. Did you mean {nearest[0]}?")
    return value


Sources = list[Annotated[Source, BeforeValidator(_parse_source)]]
