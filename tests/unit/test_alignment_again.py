"""Lists that show what somebody had: habits are learned and weighed, and leave all other lists as they are."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from molar_retrieval.alignment.align import align
from molar_retrieval.alignment.derive import derive
from molar_retrieval.alignment.store import open_model
from molar_retrieval.catalog import prepare_catalogue
from molar_retrieval.collaborative.factors import open_log
from molar_retrieval.config import AlignSettings, EmbedSettings, MolarSettings
from molar_retrieval.embedding import embed
from molar_retrieval.experts.habits import DAY, day_after
from molar_retrieval.interactions import prepare_interactions
from molar_retrieval.ranking.aims import NEXT, NEXT_SEEN
from molar_retrieval.workspace import Workspace

N, PEOPLE, START = 40, 260, 18_000 * DAY
SETTINGS = MolarSettings(align=AlignSettings(preset="instant", threads=1))


def bought(folder):
    """A shop where everybody buys one thing of their own again and again, and others once."""
    random, rows = np.random.default_rng(0), []
    for user in range(PEOPLE):
        staple = user % 8
        for visit in range(4 + user % 3):
            when = START + (user % 25 + 25 * visit) * DAY
            both = [f"i{staple}", f"i{8 + random.integers(N - 8)}"]
            rows += [(f"u{user}", item, when + n) for n, item in enumerate(both if user % 2 else both[::-1])]
    names, items, times = zip(*rows, strict=True)
    table = {"user_id": names, "item_id": items, "timestamp": times}
    pq.write_table(pa.table({name: list(values) for name, values in table.items()}), folder / "interactions.parquet")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("again") / "shop"
    folder.mkdir()
    ids = [f"i{n}" for n in range(N)]
    pq.write_table(
        pa.table({"item_id": ids, "title": [f"thing {n}" for n in range(N)], "price": [1.0] * N}),
        folder / "items.parquet",
    )
    vectors = np.random.default_rng(1).normal(size=(N, 8)).astype(np.float32)
    table = pa.table({"item_id": ids, "vector": pa.array(vectors.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, folder / "vectors.parquet")
    bought(folder)
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    prepare_interactions(folder, workspace)
    embed(workspace, EmbedSettings(), vectors=folder / "vectors.parquet")
    report = align(workspace, SETTINGS)
    return SimpleNamespace(workspace=workspace, report=report, model=open_model(report.folder))


def test_habits_are_chosen_where_people_take_things_again(shop):
    told = shop.report.facts["again"]
    assert 100 <= told["repeats"] < told["cases"]
    assert told["scores"]["aligned"]["ndcg@10"] > max(
        told["scores"][name]["ndcg@10"] for name in ("linear", "neighbours", "sequence", "trend")
    )
    weights = shop.model.weights_for(NEXT_SEEN)
    assert weights == pytest.approx({part: told["weights"][part] for part in weights})
    assert shop.model.weights_for(NEXT)["habits"] == 0
    assert shop.model.habits.until == day_after(open_log(shop.workspace))


def test_an_update_keeps_what_was_learned(shop):
    table = pq.read_table(shop.workspace.catalogue / "interactions.parquet")
    more = pa.table({"user_id": ["u5"], "item_id": ["i9"], "timestamp": [START + 300 * DAY]})
    pq.write_table(pa.concat_tables([table, more]), shop.workspace.catalogue / "interactions.parquet")
    prepare_interactions(shop.workspace.catalogue, shop.workspace)
    model = open_model(derive(shop.workspace).folder)
    assert model.habits.numbers.tolist() == shop.model.habits.numbers.tolist()
    assert np.array_equal(model.habits.tendency, shop.model.habits.tendency)
    assert model.habits.until == START + 301 * DAY
    assert not np.array_equal(model.habits.demand, shop.model.habits.demand)
    assert model.aims == shop.model.aims


def test_nothing_is_learned_where_nobody_takes_anything_again(trained):
    facts = Workspace.open(trained.workspace)["alignment"].require()[1].facts
    assert facts.get("again") is None
    assert facts.get("habits") is None
