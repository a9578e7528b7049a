"""The recommender on a generation of vectors made by hand: sums with partners, newcomers in the list, parts."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from molar_indexes.generations import publish
from molar_indexes.recommender import Recommender
from molar_indexes.records import sparse_rows
from molar_indexes.users import UserRecord
from molar_retrieval.ranking import candidates
from molar_retrieval.ranking.filters import Equals, Expression, matches
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, SparseVector
from molar_retrieval.ranking.objectives import Slots, last
from molar_retrieval.ranking.query import Query, ResolvedQuery
from molar_retrieval.ranking.ranker import Ranker
from molar_retrieval.ranking.reranker import Reranker, names
from molar_retrieval.rng import generator
from molar_retrieval.workspace.artefacts import Workspace

KNOWN, NEW, USERS = 60, 15, 25
N = KNOWN + NEW
PARTS = {"id_tower": (0, 4), "content_tower": (4, 7), "popularity": (7, 8)}
SPARSE_PARTS = {"ease": (0, N), "sequential": (N, 2 * N)}


class Shop:
    """Random vectors; every fifth item is a newcomer."""

    def __init__(self) -> None:
        rng = generator(0, "shop of newcomers")
        self.newcomer = np.arange(N) % 5 == 2
        self.items = rng.normal(size=(N, 8)).astype(np.float32)
        self.items[self.newcomer] *= 3  # other scales, as predictions have
        neighbors = rng.exponential(size=(N, 2 * N)) * (rng.random((N, 2 * N)) < 0.2)
        neighbors[self.newcomer] = 0
        self.neighbors = neighbors.astype(np.float32)
        self.users = rng.normal(size=(USERS, 8)).astype(np.float32)
        self.users[:, 7] = 1
        self.histories = [np.sort(rng.choice(N, 6, replace=False)) for _ in range(USERS)]
        self.reads = np.zeros((USERS, 2 * N), np.float32)
        for user, history in enumerate(self.histories):
            self.reads[user, history] = 1
            self.reads[user, N + history] = 0.8 ** np.arange(6)

    def payload(self, row: int) -> dict[str, object]:
        return {"title": f"Item {row}", "colour": ["red", "blue", "green"][row % 3]}

    def publish(self, folder: Path, backend: str, *, slots: Slots, newcomers: bool = True) -> Workspace:
        (folder / "shop").mkdir()
        workspace = Workspace.for_catalogue(folder / ".molar", folder / "shop")
        dims = {"aligned": 8, "cold_start": 8} if newcomers else {"aligned": 8}
        items = []
        for row, neighbors in enumerate(sparse_rows(csr_matrix(self.neighbors))):
            name = "cold_start" if self.newcomer[row] and newcomers else "aligned"
            vectors, sparse = {name: self.items[row].tolist()}, {"item_item": neighbors}
            items.append(IndexItem(row, f"i{row}", vectors, self.payload(row), sparse))
        people = []
        for user, sparse in enumerate(sparse_rows(csr_matrix(self.reads))):
            history = self.histories[user]
            people.append(UserRecord(f"u{user}", self.users[user].tolist(), history, sparse, {}, [0] * len(history)))
        publish(
            workspace, backend=backend, spec=IndexSpec(dims, {"colour": "keyword"}, sparse=("item_item",)),
            items=items, users=people, popular=[(0, 3)], inputs={"alignment": "a"}, parts=PARTS,
            sparse_parts=SPARSE_PARTS, slots=slots,
        ).close()  # fmt: skip
        return workspace

    def expected(self, user: int, places: Slots, hidden: set[int], where: Expression | None) -> list[tuple[str, float]]:
        """The whole list, from all scores at once."""
        scores = self.items.astype(np.float64) @ self.users[user] + self.neighbors.astype(np.float64) @ self.reads[user]
        rows = [r for r in range(N) if r not in hidden and (where is None or matches(where, self.payload(r)))]
        known = sorted((-scores[r], r) for r in rows if not self.newcomer[r])
        new = sorted((-scores[r], r) for r in rows if self.newcomer[r])
        own = places[max(0, len(places) - len(new)) :]
        first = len(own) if len(known) > 10 - len(own) else 0
        if known and new:
            before = [place - n - 1 for n, place in enumerate(own[:first])]  # known items before each
            lifted = [
                known[b - 1][0] + (known[b][0] - known[b - 1][0]) * (before[: n + 1].count(b)) / (before.count(b) + 1)
                for n, b in enumerate(before)
            ]
            last_one = lifted[-1] if first else known[:10][-1][0]
            # A bit worse, as the one that comes level with a known item stands behind it.
            lifted += [last_one + score - new[max(0, first - 1)][0] + 1e-9 for score, _ in new[first:]]
            new = [(score, row) for score, (_, row) in zip(lifted, new, strict=True)]
        return [(f"i{row}", -score) for score, row in sorted(known + new)]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture(autouse=True, params=["multiplied", "searched"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All items are multiplied, as they are few, or searched, as many are."""
    if request.param == "searched":
        monkeypatch.setattr(candidates, "MOST_SCANNED", 0)


@pytest.fixture(scope="module", params=[("exact", ()), ("exact", (3, 6, 10)), ("edge", ()), ("edge", (9, 10))], ids=str)
def served(
    request: pytest.FixtureRequest, shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Recommender, Slots]]:
    backend, places = request.param
    workspace = shop.publish(tmp_path_factory.mktemp("newcomers"), backend, slots=places)
    with Recommender.open(workspace.root) as recommender:
        yield recommender, places


@pytest.mark.parametrize("where", [None, Equals("colour", "red"), Equals("colour", "purple")])
@pytest.mark.parametrize("k", [1, 5, 10, 30, 200])
def test_answers_are_the_merged_list_of_all_scores(
    served: tuple[Recommender, Slots], shop: Shop, k: int, where: Expression | None
) -> None:
    recommender, places = served
    for user in range(0, USERS, 3):
        for filter_seen in (True, False):
            hidden = set(shop.histories[user].tolist()) if filter_seen else set()
            answer = recommender.query(f"u{user}", k=k, filter_seen=filter_seen, where=where)
            wanted = shop.expected(user, places, hidden, where)[:k]
            assert [i.item_id for i in answer.items] == [item_id for item_id, _ in wanted]
            assert [i.score for i in answer.items] == pytest.approx([score for _, score in wanted], abs=1e-4)
            assert [i.rank for i in answer.items] == list(range(1, len(wanted) + 1))


def test_newcomers_have_their_share_of_the_first_ten(served: tuple[Recommender, Slots], shop: Shop) -> None:
    recommender, places = served
    for user in range(USERS):
        items = recommender.query(f"u{user}", k=10).items
        assert tuple(i.rank for i in items if shop.newcomer[int(i.item_id[1:])]) == places


def test_a_second_stage_moves_known_items_only(served: tuple[Recommender, Slots], shop: Shop) -> None:
    recommender, _ = served
    plain = recommender.ranker
    count = len(names(plain.store, ()))
    rng = generator(0, "any second stage")
    second = Reranker(
        names(plain.store, ()), {}, np.zeros(count), np.ones(count), rng.normal(size=(1, count, 2)), np.zeros((1, 2)),
        rng.normal(size=(1, 2)), rng.normal(size=(1, count)), np.ones(1),
    )  # fmt: skip
    ranker = Ranker(plain.index, plain.store, plain.slots, second)
    changed = False
    for user in range(0, USERS, 5):
        vector, reads = shop.users[user].tolist(), sparse_rows(csr_matrix(shop.reads[user : user + 1]))
        request = ResolvedQuery(Query(k=N), UserRecord("", vector, shop.histories[user], next(iter(reads))))
        before, after = ([place.row for place in next(one.rank([request])).places] for one in (plain, ranker))
        changed |= before != after
        assert sorted(before) == sorted(after)
        assert [row if shop.newcomer[row] else -1 for row in before] == [
            row if shop.newcomer[row] else -1 for row in after
        ]
        for place in next(ranker.rank([request])).places:
            assert sum(place.parts.values()) == pytest.approx(place.score)
    assert changed


def test_parts_add_up_and_only_newcomers_are_lifted(served: tuple[Recommender, Slots], shop: Shop) -> None:
    recommender, _ = served
    for user in range(0, USERS, 5):
        for item in recommender.query(f"u{user}", k=N).items:
            row = int(item.item_id[1:])
            assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-4)
            names = [*PARTS, *SPARSE_PARTS, *(["cold_start"] if shop.newcomer[row] else [])]
            assert list(item.parts) == names
            assert item.parts["popularity"] == pytest.approx(float(shop.items[row, 7]), abs=1e-6)
            linear = float(shop.neighbors[row, :N] @ shop.reads[user, :N])
            assert item.parts["ease"] == pytest.approx(linear, abs=1e-5)


def test_a_shortfall_counts_all_items(served: tuple[Recommender, Slots]) -> None:
    recommender, _ = served
    answer = recommender.query("u3", k=500)
    assert len(answer.items) == N - 6
    assert answer.shortfall == f"{N - 6} of 500 items: the catalogue has {N}, 6 are hidden"
    assert recommender.query("u3", k=N - 6).shortfall is None
    filtered = recommender.query("u3", k=N, where=Equals("colour", "red"))
    assert filtered.shortfall is not None
    assert "the filter leaves out others" in filtered.shortfall


def test_a_session_asks_with_both_vectors_of_the_encoder(
    served: tuple[Recommender, Slots], shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender, _ = served

    def encode(items: object, times: object) -> tuple[Any, SparseVector]:
        (sparse,) = sparse_rows(csr_matrix(shop.reads[4:5]))
        return shop.users[4], sparse

    monkeypatch.setitem(vars(recommender._following.present._reader), "encoder", SimpleNamespace(encode=encode))
    session = recommender.query(session=[f"i{row}" for row in shop.histories[4]], k=20)
    query = recommender.query("u4", k=20)
    assert json.dumps(session.to_dict()["items"]) == json.dumps(query.to_dict()["items"])


def test_popular_items_have_no_lift(served: tuple[Recommender, Slots]) -> None:
    recommender, _ = served
    answer = recommender.query("nobody", k=3, fallback="popular")
    assert [(i.item_id, i.score) for i in answer.items] == [("i0", 3.0)]


def test_without_newcomers_newcomers_are_not_asked_for(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = shop.publish(tmp_path, "exact", slots=last(3), newcomers=False)
    with Recommender.open(workspace.root) as recommender:
        generation = recommender.generation
        assert generation.cold_items == 0
        asked: list[str] = []
        top = generation.index.top

        def watched(name: str, *arguments: Any, **more: Any) -> list[tuple[int, float]]:
            asked.append(name)
            return top(name, *arguments, **more)

        monkeypatch.setattr(generation.index, "top", watched)
        monkeypatch.setattr(candidates, "MOST_SCANNED", 0)
        assert recommender.query("u0", k=2).items
        assert asked == ["aligned"]


def test_asking_by_user_id_imports_nothing_heavy(shop: Shop, tmp_path: Path) -> None:
    workspace = shop.publish(tmp_path, "edge", slots=last(3))
    program = f"""
        import sys
        from pathlib import Path
        from molar_indexes.recommender import Recommender
        with Recommender.open(Path({str(workspace.root)!r})) as recommender:
            answer = recommender.query("u1")
            assert sum("cold_start" in item.parts for item in answer.items) == 3
        heavy = {{"torch", "pyarrow", "pydantic", "scipy"}} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
