"""docs/options.md, which `make options` writes."""

import runpy

from helpers.run import REPOSITORY

from lmsys_trl.cli import recipe_scripts
from lmsys_trl.keys import keys_of
from lmsys_trl.limits import is_hidden

GENERATOR = runpy.run_path(str(REPOSITORY / "docs" / "generate_options.py"))
PAGE = (REPOSITORY / "docs" / "options.md").read_text(encoding="utf-8")


def test_the_page_is_current():
    assert GENERATOR["render"]() == PAGE, "run make options"


def test_each_recipe_has_its_keys():
    """In its own table or in one that it links to."""
    sections = {text.partition("\n")[0]: text for text in PAGE.split("\n## ")}
    for verb, script in recipe_scripts().items():
        texts = [sections[verb], *(text for title, text in sections.items() if f"[{title}](#" in sections[verb])]
        missing = [
            name for name in keys_of(runpy.run_path(str(script))["CONFIGS"]) if f"| `{name}` |" not in "".join(texts)
        ]
        assert all(map(is_hidden, missing)), verb


def test_cells_are_escaped():
    assert GENERATOR["escape"]("a|b <c> *.csv `d|<e> *`") == r"a\|b &lt;c> \*.csv `d\|<e> *`"
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) > 200 and all(row.replace(r"\|", "").count("|") == 5 for row in rows)
