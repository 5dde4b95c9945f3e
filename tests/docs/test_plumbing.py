"""What stands around the pages: their navigation, the workflow, the contributing guide, the citation."""

import re
import subprocess
import tomllib

import yaml
from helpers.run import REPOSITORY


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def targets() -> set[str]:
    """The targets of the Makefile that are meant to be typed."""
    return set(re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split())


def test_versions_agree():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    assert re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[1] == version


def test_all_pages_are_in_the_navigation():
    names = [name for entry in yaml.safe_load(read("mkdocs.yml"))["nav"] for name in entry.values()]
    pages = [path.relative_to(REPOSITORY / "docs").as_posix() for path in (REPOSITORY / "docs").rglob("*.md")]
    assert sorted(names) == sorted(pages)


def test_targets_exist():
    for target in targets():
        result = subprocess.run(["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    guide = {word for words in re.findall(r"\bmake ([a-z][a-z ]*)", read("CONTRIBUTING.md")) for word in words.split()}
    assert {"test", "quality", "docs", "options", "build"} <= guide <= targets()


def test_the_workflow_calls_targets_and_pinned_actions():
    jobs = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    made = {step["run"].removeprefix("make ") for step in steps if step.get("run", "").startswith("make ")}
    assert {"quality", "test", "docs"} <= made <= targets()
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)


def test_issue_forms_and_hooks_are_yaml():
    forms = [yaml.safe_load(path.read_text()) for path in (REPOSITORY / ".github/ISSUE_TEMPLATE").glob("*.yml")]
    assert len(forms) == 3 and "lmsys-trl env" in read(".github/ISSUE_TEMPLATE/bug_report.yml")
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    assert all(hook["entry"].removeprefix(".venv/bin/") in read("Makefile") for hook in hooks)
