"""A part of a catalogue: all steps see only its items, and vectors that are there already are used again."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import condition_of, prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.workspace.artefacts import Workspace


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Path, Workspace]:
    folder = tmp_path / "shop"
    folder.mkdir()
    kinds = ["Shoes", "Hats", "Shoes", "Mugs", "Hats"]
    items = {"item_id": [f"i{n}" for n in range(5)], "title": [f"{k} {n}" for n, k in enumerate(kinds)]}
    pq.write_table(pa.table({**items, "category": kinds, "price": [5, 10, 15, 20, 25]}), folder / "items.parquet")
    pairs = [("a", "i0"), ("a", "i1"), ("b", "i2"), ("b", "i3"), ("c", "i4"), ("c", "gone")]
    log = {"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs], "timestamp": list(range(6))}
    pq.write_table(pa.table(log), folder / "interactions.parquet")
    return folder, Workspace.for_catalogue(tmp_path / ".molar", folder)


def ids(workspace: Workspace) -> list[str]:
    return Catalogue.open(workspace["catalogue"].require()[0]).ids.array.to_pylist()


def test_only_the_part_is_there(shop: tuple[Path, Workspace]) -> None:
    folder, workspace = shop
    manifest = prepare_catalogue(folder, workspace, where="category = Shoes or price > 20")
    assert ids(workspace) == ["i0", "i2", "i4"]
    assert manifest.facts["items"] == 3
    assert condition_of(workspace) == "category = Shoes or price > 20"
    log = prepare_interactions(folder, workspace)
    assert (log.facts["interactions"], log.facts["others"], log.facts["rejects"]) == (3, 3, 0)


def test_the_whole_and_the_part_do_not_pass_for_each_other(shop: tuple[Path, Workspace]) -> None:
    folder, workspace = shop
    whole = prepare_catalogue(folder, workspace).fingerprint
    assert condition_of(workspace) is None
    part = prepare_catalogue(folder, workspace, where="price >= 0").fingerprint
    assert part != whole
    assert len(ids(workspace)) == 5
    assert prepare_catalogue(folder, workspace).fingerprint == whole
    log = prepare_interactions(folder, workspace)
    assert (log.facts["others"], log.facts["rejects"]) == (0, 1)


def test_what_chooses_nothing_is_named(shop: tuple[Path, Workspace]) -> None:
    folder, workspace = shop
    prepare_catalogue(folder, workspace)
    with pytest.raises(DataError, match=r"none of 5 items fulfils 'category = Vans'"):
        prepare_catalogue(folder, workspace, where="category = Vans")
    with pytest.raises(RequestError, match="colour"):
        prepare_catalogue(folder, workspace, where="colour = red")
    assert len(ids(workspace)) == 5
    prepare_catalogue(folder, workspace, where="item_id = i3")
    pq.write_table(pa.table({"user_id": ["a"], "item_id": ["i0"], "timestamp": [1]}), folder / "interactions.parquet")
    with pytest.raises(DataError, match="is with an item where item_id = i3"):
        prepare_interactions(folder, workspace)
