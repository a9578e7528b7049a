"""What every attack shares: a shop of its own, how often it is tried, and what it measured.

The first line of a test's docstring is the promise that it attacks; `bench/attacks.py` makes a table of them.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from copies import copy_workspace

FULL = os.environ.get("MOLAR_TEST_ATTACKS") == "full"


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How often an attack is tried: the first number in CI, the second one where `bench/attacks.py` runs it."""
    return lambda quick, full: full if FULL else quick


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keeps what an attack measured, in a few words, for the table: ``measured("200 of 200 refused or right")``."""
    return lambda words: record_property("measured", words)


@pytest.fixture(autouse=True)
def _promise(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    record_property("room", (request.module.__doc__ or "").splitlines()[0].rstrip("."))
    record_property("promise", (request.function.__doc__ or "").splitlines()[0].rstrip("."))


@pytest.fixture
def shop(trained, tmp_path):
    """A trained demo shop that a test may damage: `.shop`, `.workspace`, `.user`, see the fixture `trained`."""
    folder = tmp_path / "own"
    shutil.copytree(trained.shop, folder / "shop")
    copy_workspace(trained.workspace, folder / ".molar", symlinks=True)
    bound(folder / ".molar", folder / "shop")
    return replace(trained, shop=folder / "shop", workspace=folder / ".molar")


def bound(workspace: Path, catalogue: Path) -> None:
    """Bind a copied workspace to the copied catalogue."""
    file = workspace / "workspace.json"
    record = json.loads(file.read_text("utf-8")) | {"catalogue": str(catalogue.resolve())}
    file.write_text(json.dumps(record), "utf-8")
