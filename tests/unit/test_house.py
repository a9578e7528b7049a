"""How the code is kept: no import circles, no class name twice, no module that is too long."""

import ast
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOTS = {
    "molar_retrieval": ROOT / "molar_retrieval",
    "molar_indexes": ROOT / "indexes" / "molar_indexes",
    "molar_eval": ROOT / "eval" / "molar_eval",
    "molar": ROOT / "cli" / "molar",
    "molar_serving": ROOT / "serving" / "molar_serving",
    "molar_cli": ROOT / "cli" / "molar_cli",
}
LONGEST = 400


@pytest.fixture(scope="module")
def modules():
    """The syntax tree of every module by its name."""
    found = {}
    for name, folder in ROOTS.items():
        for path in folder.rglob("*.py"):
            parts = [name, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text("utf-8"))
    return found


def imported(tree, modules):
    """The modules that a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def without_types(tree):
    """The tree without what is imported for annotations alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


def test_no_module_imports_itself_by_way_of_others(modules):
    graph = {
        name: {other for other in imported(without_types(tree), modules) if other in modules and other != name}
        for name, tree in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' ← '.join(error.args[1])}")


def test_a_class_name_means_one_class(modules):
    places = defaultdict(list)
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_modules_are_short_enough_to_read():
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ROOTS.values()
        for path in folder.rglob("*.py")
        if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST
    }
    assert long == {}


def test_switches_of_tests_are_no_settings():
    read = re.compile(r"environ(?:\.get\(|\[)\s*\"(MOLAR_\w+)\"")
    found = {name for path in (ROOT / "tests").rglob("*.py") for name in read.findall(path.read_text("utf-8"))}
    assert "MOLAR_TEST_EXPERIMENT_RUNS" in found
    assert {name for name in found if not name.startswith("MOLAR_TEST_")} <= {"MOLAR_DATA"}, "molar refuses them"
