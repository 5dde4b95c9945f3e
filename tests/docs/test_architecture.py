"""docs/architecture.md says what is there: all of it, and nothing else."""

import ast
import re
import tomllib
from collections import Counter

import pytest
from helpers.run import REPOSITORY

PACKAGE = REPOSITORY / "lmsys_trl"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
FILE_TYPES = ("csv", "html", "json", "md", "parquet", "png", "py", "toml", "yaml")
LINE = re.compile(r"( *)(\S+)(?:  +(\S.*))?")


def block_of(section: str) -> list[str]:
    """The lines of the first fenced block of a section."""
    (body,) = re.findall(rf"^## {section}\n.*?^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return body.splitlines()


def tree() -> list[str]:
    """The paths that the tree names, folders with a slash at the end."""
    paths, folders = [], []
    for line in block_of("The tree"):
        match = LINE.fullmatch(line)
        assert match and len(match[1]) % 2 == 0 and len(match[1]) // 2 <= len(folders), f"not a line of a tree: {line}"
        folders = folders[: len(match[1]) // 2]
        paths.append("".join(folders) + match[2])
        folders.append(match[2])
    return paths


def files(folder: str, pattern: str) -> set[str]:
    return {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / folder).rglob(pattern)}


def modules() -> set[str]:
    """The modules of the package, without the scripts that `evaluate` loads."""
    scripts = files("lmsys_trl/metrics", "*/*.py")
    return {path for path in files("lmsys_trl", "*.py") - scripts if not path.endswith("/__init__.py")}


def test_every_path_of_the_tree_exists_once():
    paths = tree()
    assert [path for path, count in Counter(paths).items() if count > 1] == []
    missing = [path for path in paths if not (REPOSITORY / path).exists()]
    assert missing == [] and [path for path in paths if (REPOSITORY / path).is_dir() != path.endswith("/")] == []


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("lmsys_trl", modules()),
        ("recipes", files("recipes", "*.py") | files("recipes", "*.yaml")),
        ("accelerate_configs", files("accelerate_configs", "*.yaml")),
    ],
)
def test_the_tree_names_every(folder, expected):
    named = {path for path in tree() if path.startswith(f"{folder}/") and path.endswith((".py", ".yaml"))}
    assert named == expected and len(named) > 5


def test_the_tree_names_every_package():
    inits = files("lmsys_trl", "__init__.py") - files("lmsys_trl/metrics", "*/__init__.py")
    packages = {path.removesuffix("__init__.py") for path in inits}
    assert packages <= set(tree()) and len(packages) > 8


def test_every_line_of_the_tree_says_what_is_there():
    assert [line for line in block_of("The tree") if not LINE.fullmatch(line)[3]] == []


def test_the_layers_are_those_of_the_project():
    (contract,) = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert block_of("Layers") == contract["layers"]


def module_names() -> list[str]:
    """The modules of the page: code spans with a dot, without files, and those in the second column of tables."""
    text = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    dotted = [name for name in re.findall(r"`([^`\n]+)`", text) if re.fullmatch(r"\w+(\.\w+)+", name)]
    columns = re.findall(r"^\| [^|]+ \| ([^|]+) \|$", text, flags=re.MULTILINE)
    in_tables = [name for column in columns for name in re.findall(r"`([^`]+)`", column)]
    return [name for name in dotted if name.rpartition(".")[2] not in FILE_TYPES] + in_tables


def exists(name: str) -> bool:
    """Whether `data.sources` is a module of the package, or `config.parse_config` is defined in one."""
    path = PACKAGE / f"{name.replace('.', '/')}.py"
    if path.is_file():
        return True
    module, _, definition = name.rpartition(".")
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    if not path.is_file():
        return False
    defined = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node]
        defined |= {getattr(target, "name", getattr(target, "id", None)) for target in targets}
    return definition in defined


def test_every_module_that_the_page_names_exists():
    names = module_names()
    assert len(names) > 40 and [name for name in names if not exists(name)] == []
