"""A part of a catalogue: what is left, and that molar reads it."""

import importlib
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.models.als import open_log
from molar_retrieval.workspace.artefacts import Workspace

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def subset(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("subset")


def table(pairs):
    users, items = zip(*pairs, strict=True)
    return pa.table({"user_id": users, "item_id": items, "timestamp": list(range(len(users)))})


def test_by_hand_leaving_out_an_item_leaves_out_its_user(subset):
    pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x"), ("c", "z")]
    kept = subset.core(table(pairs), 2, 2)
    assert list(zip(kept["user_id"].to_pylist(), kept["item_id"].to_pylist(), strict=True)) == pairs[:4]


@pytest.mark.parametrize("seed", range(5))
def test_everybody_left_has_enough_and_nothing_more_could_stay(subset, seed):
    drawn = random.Random(seed)
    pairs = [(f"u{drawn.randrange(40)}", f"i{int(drawn.paretovariate(1)) % 50}") for _ in range(250)]
    kept = subset.core(table(pairs), 4, 3)
    users, items = Counter(kept["user_id"].to_pylist()), Counter(kept["item_id"].to_pylist())
    assert all(count >= 4 for count in users.values())
    assert all(count >= 3 for count in items.values())
    while True:  # one pair at a time, in place of column by column
        users, items = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        bad = next((pair for pair in pairs if users[pair[0]] < 4 or items[pair[1]] < 3), None)
        if bad is None:
            break
        pairs = [pair for pair in pairs if pair != bad]
    assert len(kept) == len(pairs) > 0


def test_a_core_is_a_catalogue(subset, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "core"
    (whole / "images").mkdir(parents=True)
    pairs = [(f"u{n % 4}", f"i{n % 3}") for n in range(24)] + [("u0", "rare"), ("once", "i1")]
    pq.write_table(table(pairs), whole / "interactions.parquet")
    ids = [f"i{n}" for n in range(5)] + ["rare"]
    pq.write_table(
        pa.table({"item_id": ids, "title": [f"Thing {n}" for n in ids], "sold": ids}), whole / "items.parquet"
    )
    subset.write(whole, out, 3, 3, ["sold"])
    assert pq.read_schema(out / "items.parquet").names == ["item_id", "title"]
    workspace = Workspace.for_catalogue(tmp_path / "ws", out)
    prepare_catalogue(out, workspace)
    prepare_interactions(out, workspace)
    log = open_log(workspace)
    assert (log.n_users, log.n_items, len(log)) == (4, 3, 24)
