"""Each promise of the security page has its tests."""

import re

from helpers.run import REPOSITORY


def test_promises_name_tests_that_exist():
    page = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!promise|-)([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    named = [re.findall(r"`(test_\w+)`", tests) for _, tests in rows]
    assert len(rows) > 15 and all(named)
    known = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert sorted({name for names in named for name in names} - known) == []
