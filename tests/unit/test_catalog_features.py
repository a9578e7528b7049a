"""Hashed attributes: what is alike, what counts, what does not."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data import text_features
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.text_features import WIDTH, hashed_attributes
from molar_retrieval.workspace.artefacts import Workspace

ITEMS = {
    "item_id": ["a", "b", "c", "d", "e"],
    "title": ["One", "Two", "Three", "Four", "Five"],
    "kind": ["Shirt", "shirt", "Trousers", None, "Shirt"],
    "colours": [["Red", "Blue"], ["Red"], ["Blue"], None, []],
    "sold": [3, 4, 5, 6, 7],
}


@pytest.fixture
def open_items(tmp_path):
    def opened(columns, name="shop", settings=""):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "catalog.toml").write_text(settings)
        pq.write_table(pa.table(columns), folder / "items.parquet")
        workspace = Workspace.for_catalogue(tmp_path / f"{name}-ws", folder)
        prepare_catalogue(folder, workspace)
        return Catalogue.open(workspace["catalogue"].require()[0])

    return opened


def test_like_items_are_like_and_numbers_do_not_count(open_items):
    catalogue = open_items(ITEMS)
    assert catalogue.attribute_fields == ("kind", "colours")
    hashed = hashed_attributes(catalogue)
    assert hashed.shape == (5, WIDTH)
    alike = (hashed @ hashed.T).toarray()
    assert np.allclose(np.diag(alike), [2, 2, 2, 0, 1])  # a column has length 1, however many values it has
    assert alike[0, 1] == pytest.approx(1 + np.sqrt(0.5))  # the same kind in another case, one of two colours
    assert alike[0, 2] == pytest.approx(np.sqrt(0.5))
    assert alike[1, 2] == pytest.approx(0)
    assert alike[0, 4] == pytest.approx(1)


def test_a_value_has_the_same_place_in_every_catalogue_and_another_in_every_column(open_items):
    one = hashed_attributes(open_items(ITEMS))
    fewer = {name: values[1:3] for name, values in ITEMS.items()}
    assert np.array_equal(one[1:3].toarray(), hashed_attributes(open_items(fewer, "fewer")).toarray())
    twice = {"item_id": ["a"], "title": ["One"], "kind": ["Red"], "shade": ["Red"]}
    assert hashed_attributes(open_items(twice, "twice")).nnz == 2


def test_reading_in_pieces_changes_nothing(open_items, monkeypatch):
    catalogue = open_items(ITEMS)
    whole = hashed_attributes(catalogue)
    monkeypatch.setattr(text_features, "_BATCH", 2)
    assert np.array_equal(hashed_attributes(catalogue).toarray(), whole.toarray())


def test_a_column_with_a_reserved_name_and_a_catalogue_without_attributes(open_items):
    named = {"item_id": ["a", "b"], "title": ["One", "Two"], "about": ["x", "y"], "text": ["soft", "soft"]}
    catalogue = open_items(named, settings='[items]\ndescription = "about"\nattributes = ["text"]')
    assert catalogue.attribute_fields == ("text_column",)
    hashed = hashed_attributes(catalogue)
    assert (hashed[[0]] != hashed[[1]]).nnz == 0
    assert hashed.nnz == 2
    bare = hashed_attributes(open_items({"item_id": ["a", "b"], "title": ["One", "Two"]}, "bare"))
    assert bare.shape == (2, WIDTH)
    assert bare.nnz == 0
