"""Fixtures that all tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set by name; skips the test, saying so, where it is absent."""
    root = Path(os.environ.get("MOLAR_DATA", ROOT.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        path = root / name
        if not path.is_dir():
            pytest.skip(f"the data set {name} is not in {root} (set MOLAR_DATA)")
        return path

    return folder
