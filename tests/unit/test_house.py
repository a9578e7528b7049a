"""How the code is kept: no import circles, no stale imports in scripts, one way in for ids of people."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
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

READERS = {
    *("InteractionReader", "files_of_people", "log_columns", "open_source", "read_impressions", "read_segments"),
    "user_column",
}
"""What finds people in files that a shop brings, by the ids that it gives them."""

DOORS = {
    "molar.dataset": "reads the ids of items alone; users are read in a workspace that is gone afterwards",
    "molar.events": "of the events that it brings, EventLog names the people",
    "molar.introducing.outside": "names them",
    "molar.tables": "reads the names of columns, and no ids",
    "molar_eval.experiments.covariates": "names them",
    "molar_eval.kpi.impressions": "reads them for kpi.shown",
    "molar_eval.kpi.prelaunch": "names them",
    "molar_eval.slices": "names them",
    "molar_indexes.refresh": "has them named by interactions.people",
    "molar_indexes.privacy.forgetting": "counts rows of people who are named by these very ids",
    "molar_indexes.privacy.stored": "names them, to find rows of one person",
    "molar_retrieval.data.schema": "opens tables of items as well",
    "molar_retrieval.privacy.pseudonymisation": "turns names back into ids, which are kept nowhere",
    "molar_retrieval.data.order_files": "of the order lines that it brings, EventLog names the people",
    "molar_retrieval.data.users_file": "names them, and counts those of the file",
    "molar_retrieval.data.prepare_interactions": "names them",
    "molar_retrieval.data.inference.infer": "looks at values before there is a workspace, and keeps none",
    "molar_retrieval.data.inference.preview": "reads a file before there is a workspace, and keeps none of it",
    "molar_retrieval.data.inference.dialect": "reads first rows before there is a workspace, and keeps none",
    "molar_retrieval.quality.interactions": "tells what is wrong with a file; its page masks ids",
    "molar_retrieval.quality.personal_data": "tells what is wrong with a file; its page masks ids",
}
"""The modules that do, each with what it does about it."""

NAMED = {
    "molar_retrieval.data.live_events": "reads the event log, where people are named already",
    "molar_retrieval.privacy.pseudonyms": "names them, and takes keys apart",
    "molar_retrieval.privacy.key_rotation": "hashes stored names with another key",
}
"""The modules that say of a word that it is what a workspace calls somebody; mypy asks all others where it is from."""

OF_EVENTS = {
    "molar_eval.experiments.exposure",
    "molar_eval.experiments.covariates",
    "molar_eval.kpi.by_day",
    "molar_eval.kpi.impressions",
    "molar_retrieval.data.interaction_events",
}
"""The modules that make keys of columns of the event log, where people are named already."""


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


def test_no_module_imports_itself_by_way_of_others(modules):
    """Imports within functions and for annotations alone count as well."""
    graph = {
        name: {other for other in imported(tree, modules) if other in modules and other != name}
        for name, tree in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' ← '.join(error.args[1])}")


def test_switches_of_tests_are_no_settings():
    read = re.compile(r"environ(?:\.get\(|\[)\s*\"(MOLAR_\w+)\"")
    found = {name for path in (ROOT / "tests").rglob("*.py") for name in read.findall(path.read_text("utf-8"))}
    assert "MOLAR_TEST_EXPERIMENT_RUNS" in found
    assert {name for name in found if not name.startswith("MOLAR_TEST_")} <= {"MOLAR_DATA"}, "molar refuses them"


def calls(tree):
    """What is called in a module: the last part of its name, with the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


def test_scripts_import_what_there_is():
    """Scripts of benches and documents run rarely; what they import may have been renamed in the meantime."""
    lost = []
    for script in sorted([*(ROOT / "bench").glob("*.py"), *(ROOT / "docs").glob("*.py")]):
        for node in ast.walk(ast.parse(script.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ROOTS:
                module = import_module(str(node.module))
                names = {name.name for name in node.names if not hasattr(module, name.name)}
                within = hasattr(module, "__path__")
                lost += [
                    f"{script.name}: {node.module}.{name}"
                    for name in sorted(names)
                    if not (within and find_spec(f"{node.module}.{name}"))
                ]
    assert lost == []


def test_processes_are_started_by_one_module_which_keeps_the_program_out_of_them():
    starts = re.compile(
        r"\b(get_context|ProcessPoolExecutor|set_start_method)\b|multiprocessing import .*\b(Process|Pool)\b"
    )
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ROOTS.values()
        for path in folder.rglob("*.py")
        if starts.search(path.read_text("utf-8"))
    }
    assert found == {"molar_retrieval/workspace/jobs.py"}


def test_people_come_in_through_doors_alone(modules):
    """Where a workspace names people by pseudonyms, nothing else has the ids that the shop gives them."""
    assert {name for name, tree in modules.items() if any(call in READERS for call, _ in calls(tree))} == {*DOORS}
    assert {name for name, tree in modules.items() if any(call == "StoredName" for call, _ in calls(tree))} == {*NAMED}
    assert {
        name for name, tree in modules.items() if any(call == "person_keys" for call, _ in calls(tree))
    } == OF_EVENTS
    for name, tree in modules.items():
        for call, node in calls(tree):
            if call == "user_keys" and name != "molar_retrieval.privacy.pseudonyms":
                assert getattr(getattr(node.args[0], "func", None), "attr", None) == "users", (
                    f"{name}: not named before"
                )
