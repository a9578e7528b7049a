"""Fixtures that all tests share."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from settings_for_tests import SMALL_ALIGNMENT

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the trained shop, which takes 15 seconds to make."""
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker("trains")


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    """Close what `molar query` leaves open for the end of its process, where tests run it in their own: 50 MB each."""
    yield
    query = sys.modules.get("molar_cli.commands.query")
    while query is not None and query._kept:
        query._kept.pop().close()


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


@dataclass(frozen=True)
class Trained:
    """A small demo shop that went through embed and align."""

    shop: Path
    workspace: Path
    user: str
    new_user: str
    items: int


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small demo shop with the built-in encoder's vectors, aligned and published; not to be changed."""
    import torch

    import molar

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    made = molar.demo(folder, items=100, users=160)
    settings = tmp_path_factory.mktemp("settings") / "molar.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items()]
    settings.write_text("\n".join(["[align]", *lines]), "utf-8")
    shop = molar.Shop(made.facts.folder, made.shop.workspace, settings)
    shop.embed()
    shop.align()
    return Trained(made.facts.folder, shop.workspace, made.facts.example_user, made.facts.new_user, made.facts.items)
