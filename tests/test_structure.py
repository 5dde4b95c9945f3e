"""The shape of the code that readers rely on."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.run import REPOSITORY

PACKAGE, RECIPES = REPOSITORY / "lmsys_trl", REPOSITORY / "recipes"


def imported(path: Path) -> set[str]:
    """The first parts of all modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_no_recipe_imports_another():
    recipes = {path.stem for path in RECIPES.glob("*.py")}
    assert len(recipes) > 10
    for path in RECIPES.glob("*.py"):
        assert not imported(path) & (recipes | {"recipes"}), path


def test_no_recipe_has_a_name_of_the_standard_library():
    """A `select.py` beside a running script would take the place of the module that `subprocess` needs."""
    names = {path.stem for path in RECIPES.iterdir()}
    assert names and not names & set(sys.stdlib_module_names)


def test_no_test_imports_another():
    tests = list((REPOSITORY / "tests").rglob("test_*.py"))
    names = {path.stem for path in tests}
    assert len(tests) > 20 and len(names) == len(tests)
    assert not [path for path in tests if imported(path) & (names | {"conftest"})]


def test_modules_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert len(lengths) > 50 and {path.name: n for path, n in lengths.items() if n > 300} == {}


def test_recipes_have_the_same_shape():
    for path in RECIPES.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert ast.get_docstring(tree) and "CONFIGS" in names and "main" in functions, path


def test_everything_imported_is_declared():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    declared = {
        group: {line.partition("[")[0].split(">")[0].split("=")[0].strip().lower().replace("-", "_") for line in lines}
        for group, lines in groups.items()
    }
    modules = {"pyyaml": "yaml", "scikit_learn": "sklearn"}
    known = {group: {modules.get(name, name) for name in names} for group, names in declared.items()}
    ours = {
        "lmsys_trl",
        "helpers",
        "fuzz",
        "conftest",
        "vllm",  # of another environment, in which vllm_worker.py runs
        *(path.stem for path in (REPOSITORY / "benchmarks").rglob("*.py")),
    }
    for folder, extras in (
        ("lmsys_trl", ("kaggle", "demo")),
        ("recipes", ("gguf",)),
        ("tests", ("kaggle", "gguf", "test", "fuzz", "serve", "demo", "browser")),
    ):
        allowed = known[""].union(ours, sys.stdlib_module_names, *(known[extra] for extra in extras))
        for path in (REPOSITORY / folder).rglob("*.py"):
            assert imported(path) <= allowed, (path, imported(path) - allowed)


def test_the_packages_of_a_wheel_are_those_of_the_tree():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    mapped = set(settings["package-dir"])
    tree = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(settings["packages"]) == tree | mapped
    assert all((REPOSITORY / folder).is_dir() for folder in settings["package-dir"].values())


@pytest.mark.parametrize("folder", ["lmsys_trl", "recipes", "benchmarks"])
def test_only_the_command_line_prints(folder):
    printing = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print"
    }
    allowed = {"lmsys_trl/cli.py", "lmsys_trl/config.py", "lmsys_trl/terminal.py"}
    assert folder == "benchmarks" or printing <= allowed
