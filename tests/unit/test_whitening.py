"""Items turned towards users: products are the same, graphs of them find more, and candidates are searched there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from molar_indexes import edge, equal_lengths
from molar_indexes.edge import EdgeIndex
from molar_indexes.generations import Generation, open_generation, publish
from molar_indexes.item_store import Extras
from molar_indexes.rebuild import Whitened
from molar_indexes.users import UserRecord
from molar_indexes.verify import verify
from molar_retrieval.ranking import candidates
from molar_retrieval.ranking.candidates import find, products, source_of
from molar_retrieval.ranking.filters import Exists
from molar_retrieval.ranking.index_protocol import SCAN, IndexItem, IndexSpec, Search, SparseVector
from molar_retrieval.ranking.query import Query, ResolvedQuery
from molar_retrieval.rng import generator
from molar_retrieval.workspace.artefacts import Workspace

DIM, N, NEW = 32, 2000, 50


def shop() -> tuple[np.ndarray, np.ndarray]:
    """Items along all directions, and people who differ along few."""
    random = generator(0, "whitening")
    few = 1.0 / np.arange(1, DIM + 1)
    people = few * random.normal(size=(64, DIM))
    return random.normal(size=(N, DIM)).astype(np.float32), people.astype(np.float32)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(candidates, "MOST_SCANNED", 0)
    monkeypatch.setattr(edge, "FULL_SCAN_KB", 10)
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def released(
    workspace: Workspace, items: np.ndarray, people: np.ndarray, turned: Whitened | None, strong: int = 0
) -> Generation:
    """Items whose partner is the one before them, of the ``strong`` first all that people had; the last are new."""
    near = None if turned is None else list(turned.rows())

    def made(row: int) -> IndexItem:
        if row >= N - NEW:
            return IndexItem(row, f"item {row}", {"cold_start": items[row]}, {})
        own = {"aligned": items[row]} | ({} if near is None else {"whitened": near[row]})
        sparse = {"item_item": SparseVector([row - 1], [0.5])} if row else {}
        if row < strong:
            sparse = {"item_item": SparseVector(list(range(len(people))), [99.0] * len(people))}
        return IndexItem(row, f"item {row}", own, {}, sparse)

    dims = dict.fromkeys(["aligned", "cold_start", *(["whitened"] if turned else [])], DIM)
    lengths = {"aligned": equal_lengths.longest(items)} | ({"whitened": turned.longest} if turned else {})
    return publish(
        workspace, backend="edge", items=map(made, range(N)), popular=[], inputs={}, parts={"dense": (0, DIM)},
        spec=IndexSpec(dims, m=8, ef_construct=64, ef=64, sparse=("item_item",), lengths=lengths),
        users=[UserRecord(f"user {n}", u, [n], SparseVector([n], [1.0]), times=[0]) for n, u in enumerate(people)],
        sparse_parts={"item_item": (0, N)}, extras=Extras(whitening=None if turned is None else turned.users),
    )  # fmt: skip


def found(generation: Generation, number: int, **limits: object) -> set[int]:
    """The known ones among 100 candidates of somebody."""
    store, user = generation.table.items, generation.users.keyed(f"user {number}")
    request = ResolvedQuery(Query(), user, hidden=frozenset({number, 7}), **limits)  # type: ignore[arg-type]
    (dense,) = products(store, [request])
    rows = find(generation.index, (), source_of(generation.index, store, request, dense), request, 100).rows
    return set(rows[rows < N - NEW].tolist())


def share(generation: Generation, items: np.ndarray, people: np.ndarray) -> float:
    """Of the best sums that are among the candidates."""
    shares = []
    for number, user in enumerate(people):
        sums = items @ user
        sums[number + 1] += 0.5
        sums[[number, 7, *range(N - NEW, N)]] = -np.inf
        best = found(generation, number)
        shares.append(len(best & set(np.argsort(-sums)[: len(best)].tolist())) / len(best))
    return float(np.mean(shares))


def test_products_stay_what_they_are() -> None:
    items, people = shop()
    turned = Whitened.of(items, people)
    assert turned is not None
    near = np.array(list(turned.rows()))
    assert (people @ turned.users) @ near.T == pytest.approx(people @ items.T, abs=1e-4)
    assert turned.longest == pytest.approx(np.linalg.norm(near, axis=1).max())
    before, after = (np.linalg.eigvalsh(asked.T @ asked) for asked in (people, people @ turned.users))
    assert before.max() > 1000 * before.min()
    assert after.max() < 10 * after.min()
    assert Whitened.of(items, 0 * people) is None


def test_candidates_are_searched_among_whitened_vectors(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    items, people = shop()
    released(workspace, items, people, Whitened.of(items, people)).close()
    asked, tops = [], EdgeIndex.tops

    def told(self: EdgeIndex, searches: Sequence[Search], **limits: object) -> list[list[tuple[int, float]]]:
        asked.extend(search.name for search in searches)
        return tops(self, searches, **limits)  # type: ignore[arg-type]

    monkeypatch.setattr(EdgeIndex, "tops", told)
    with open_generation(workspace) as generation:
        assert generation.index.graphs == {"whitened", "cold_start"}
        reach = generation.manifest.facts["graphs"]["whitened"]
        assert reach["found"] >= 0.99
        assert reach["ef"] != SCAN
        assert share(generation, items, people) >= 0.98
        assert set(asked) == {"whitened", "cold_start"}
        assert found(generation, 3, where=Exists("item_id"))
        assert set(asked) == {"whitened", "cold_start", "item_item"}
        assert verify(generation, deep=True) == []


def test_a_generation_of_before_is_searched_as_it_was(workspace: Workspace) -> None:
    items, people = shop()
    with released(workspace, items, people, None) as generation:
        assert generation.table.items.whitening is None
        assert "aligned" in generation.manifest.facts["graphs"]
        assert share(generation, items, people) >= 0.8


def test_what_sparse_products_bring_needs_no_graph(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that misses whatever has no partner is enough where all of the best sums have some."""
    items, people = shop()
    tops = EdgeIndex.tops

    def poor(self: EdgeIndex, searches: Sequence[Search], **limits: object) -> list[list[tuple[int, float]]]:
        found = tops(self, searches, **limits)  # type: ignore[arg-type]
        poor = [one.name == "whitened" and self.spec.candidates("whitened", 1) != SCAN for one in searches]
        return [own[::2] if half else own for own, half in zip(found, poor, strict=True)]

    monkeypatch.setattr(EdgeIndex, "tops", poor)
    with released(workspace, items, people, Whitened.of(items, people), strong=300) as generation:
        assert "whitened" not in generation.spec.efs
        assert generation.manifest.facts["graphs"]["whitened"]["found"] >= 0.99
