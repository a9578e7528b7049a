"""What is sold out, withdrawn or not on sale yet is no answer, whatever is asked; it stays in histories."""

from datetime import UTC, datetime

import numpy as np
import pytest

from molar_indexes.generations import publish
from molar_indexes.item_store import Extras
from molar_indexes.recommender import Recommender
from molar_indexes.users import UserRecord
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace

GONE = {"a": {"stock": 0}, "b": {"active": False}, "c": {"available_from": "2031-01-01T00:00:00Z"}}
FIELDS = {"stock": "integer", "active": "bool", "available_from": "keyword"}
BEFORE, AFTER = datetime(2030, 1, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC)


@pytest.fixture
def recommender(tmp_path):
    (tmp_path / "shop").mkdir()
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    items = [
        IndexItem(row, name, {"aligned": [10.0 - row, 1.0], "content": [1.0, 0.1 * row]}, GONE.get(name, {}))
        for row, name in enumerate("abcdefgh")
    ]
    publish(
        workspace,
        backend="exact",
        spec=IndexSpec(dims={"aligned": 2, "content": 2}, fields=FIELDS),
        items=items,
        users=[UserRecord("u", [1.0, 0.0], [0, 7], times=[0, 0])],
        popular=[(row, 9 - row) for row in range(8)],
        inputs={},
        parts={"part": (0, 1), "popularity": (1, 2)},
        extras=Extras(numbers=np.zeros((8, 0), np.float32)),
    ).close()
    with Recommender.open(workspace.root) as opened:
        yield opened


def ids(answer):
    return [item.item_id for item in answer.items]


@pytest.mark.parametrize(("now", "first"), [(BEFORE, "defg"), (AFTER, "cdef")])
def test_only_what_is_for_sale_comes(recommender, now, first):
    recommender.now = now
    assert ids(recommender.query("u", k=4)) == list(first)
    assert ids(recommender.query("u", k=4, filter_seen=False)) == list(first)
    assert ids(recommender.query("nobody", k=4, fallback="popular")) == list(first)
    (listing,) = recommender.rank_many([recommender.generation.users.get("u")], Query(k=4))
    assert [place.row for place in listing.places] == ["abcdefgh".index(name) for name in first]
    assert set(ids(recommender.query("u", k=8, candidates=["a", "b", "c", "h"], filter_seen=False))) == set(
        first + "h"
    ) & set("ch")


def test_likeness_and_searches_leave_it_out_too(recommender):
    for answer in (recommender.similar("a", k=8), recommender.search(similar_to="d", k=8)):
        assert not {"a", "b", "c"} & set(ids(answer))
        assert {"e", "f", "g", "h"} <= set(ids(answer))
