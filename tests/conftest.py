"""Fixtures that all tests share."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from settings_for_tests import SMALL_ALIGNMENT

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

    from molar_indexes.assemble import publish_generation
    from molar_retrieval.alignment.align import align
    from molar_retrieval.catalog import prepare_catalogue
    from molar_retrieval.config import MolarSettings
    from molar_retrieval.demo import write_demo_shop
    from molar_retrieval.embedding import embed
    from molar_retrieval.interactions import prepare_interactions
    from molar_retrieval.workspace import Workspace

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    facts = write_demo_shop(folder / "shop", items=100, users=160)
    workspace = Workspace.for_catalogue(folder / ".molar", folder / "shop")
    settings = MolarSettings.load(folder, environ={}, flags={"align": SMALL_ALIGNMENT})
    prepare_catalogue(folder / "shop", workspace)
    prepare_interactions(folder / "shop", workspace)
    embed(workspace, settings.embed)
    align(workspace, settings)
    publish_generation(workspace, settings.index).close()
    return Trained(folder / "shop", folder / ".molar", facts.example_user, facts.new_user, facts.items)
