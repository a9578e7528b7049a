"""The default reading of real data."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.images import open_image
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.workspace.artefacts import Workspace

pytestmark = pytest.mark.realdata

ATTRIBUTES = {
    "ml-1m": ["genres", "directors", "writers", "actors", "countries", "language"],
    "hm": [
        "product_type",
        "product_group",
        "graphical_appearance",
        "garment_group",
        "department",
        "section",
        "index_name",
        "index_group",
        "colours",
    ],
    "online-retail": [],
}
COUNTS = {"ml-1m": (3_883, 3_253), "hm": (10_010, 10_010), "online-retail": (4_486, 0)}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_catalogue(real_data, tmp_path, name):
    folder = real_data(name)
    workspace = Workspace.for_catalogue(tmp_path / "w", folder)
    facts = prepare_catalogue(folder, workspace).facts
    assert facts["attributes"] == ATTRIBUTES[name]
    assert (facts["items"], facts["with_image"]) == COUNTS[name]
    assert facts["rejects"] == 0
    assert facts["language"] == "en"
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    source = pq.read_table(folder / "items.parquet", columns=["item_id", "title"])
    assert catalogue.ids.array.to_pylist() == source["item_id"].to_pylist()
    batch = next(catalogue.batches(["title", "text", "image"], 50))
    for row in batch.to_pylist():
        assert row["text"].startswith(row["title"])
        if row["image"]:
            assert open_image(catalogue.folder, row["image"]).mode == "RGB"


@pytest.mark.parametrize(("name", "rows", "duplicates"), [("ml-1m", 1_000_209, 0), ("hm", 26_547, 0)])
def test_interactions(real_data, tmp_path, name, rows, duplicates):
    folder = real_data(name)
    workspace = Workspace.for_catalogue(tmp_path / "w", folder)
    prepare_catalogue(folder, workspace)
    facts = prepare_interactions(folder, workspace).facts
    assert (facts["rows"], facts["interactions"], facts["duplicates"]) == (rows, rows - duplicates, duplicates)
    assert facts["rejects"] == 0
    ids = Catalogue.open(workspace["catalogue"].require()[0]).ids
    log = Interactions.open(workspace["interactions"].require()[0], ids)
    # The files are grouped by user and lie in order, so reading them must not move a row.
    source = pq.read_table(folder / "interactions.parquet", columns=["user_id", "item_id", "timestamp"])
    assert log.users.ids(log.user) == source["user_id"].to_pylist()
    assert np.array_equal(log.item, ids.rows(source["item_id"]))
    assert np.array_equal(log.timestamp, source["timestamp"].to_numpy())
