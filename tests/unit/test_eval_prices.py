"""Prices of items, for revenue."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_eval.prices import item_prices
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.workspace.artefacts import Workspace


def catalogue(tmp_path, items, log=None):
    shop = tmp_path / "shop"
    shop.mkdir()
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "title": ["x", "y", "z"], **items}), shop / "items.parquet")
    if log is not None:
        pq.write_table(pa.table(log), shop / "interactions.parquet")
    workspace = Workspace.for_catalogue(tmp_path / "work", shop)
    prepare_catalogue(shop, workspace)
    return Catalogue.open(workspace["catalogue"].require()[0])


def test_a_price_of_the_catalogue_wins(tmp_path):
    found = catalogue(tmp_path, {"price": [1.5, None, 3.0]}, {"item_id": ["a"], "price": [9.0]})
    assert item_prices(found, "item_id").tolist() == [1.5, 0, 3]


def test_the_mean_price_of_the_log_is_next(tmp_path):
    log = {"sku": ["a", "a", "c", "unknown", "c"], "user_id": list("uvwxy"), "price": [1.0, 3.0, 5.0, 7.0, None]}
    assert item_prices(catalogue(tmp_path, {}, log), "sku").tolist() == pytest.approx([2, 0, 5])


def test_without_any_price_there_is_none(tmp_path):
    assert item_prices(catalogue(tmp_path, {}, {"item_id": ["a"], "user_id": ["u"]}), "item_id") is None
