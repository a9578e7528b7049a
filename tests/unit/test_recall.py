"""What graphs find: measured when a generation is published, enlarged or scanned where it is too little."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molar_indexes import edge, publish_check
from molar_indexes.edge import EdgeIndex
from molar_indexes.generations import Generation, list_generations, open_generation, publish
from molar_indexes.users import UserRecord
from molar_indexes.verify import verify
from molar_retrieval.errors import BackendError
from molar_retrieval.ranking.index_protocol import SCAN, IndexItem, IndexSpec
from molar_retrieval.rng import generator
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Manifest, Workspace

DIM, N = 48, 1500
POOR = IndexSpec({"aligned": DIM}, m=8, ef_construct=16, ef=22)
"""A graph that misses one in six of the best ten; 8 edges allow for lists of up to 93."""


class Notes:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, task: str, total: int | None) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def finish(self) -> None: ...


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "FULL_SCAN_KB", 10)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def noise(n: int = N) -> np.ndarray:
    return generator(0, "noise").normal(size=(n, DIM)).astype(np.float32)


def released(
    workspace: Workspace, vectors: np.ndarray, spec: IndexSpec, told: Notes | None = None, **more: Any
) -> Generation:
    items = (IndexItem(row, f"item {row}", {"aligned": vector.tolist()}, {}) for row, vector in enumerate(vectors))
    people = (
        UserRecord(f"user {n}", vector.tolist(), [n], times=[0])
        for n, vector in enumerate(vectors[:40] + vectors[40:80])
    )
    return publish(
        workspace, backend="edge", spec=spec, items=items, users=people, popular=[], inputs={},
        progress=told or Notes(), **more,
    )  # fmt: skip


def found(generation: Generation, vectors: np.ndarray) -> float:
    """Share of the best ten, worked out here, for queries that the proof never saw."""
    shares = []
    for query in generator(1, "queries").normal(size=(40, DIM)).astype(np.float32):
        best = set(np.argsort(-(vectors @ query))[:10].tolist())
        shares.append(len(best & {row for row, _ in generation.index.top("aligned", query.tolist(), 10)}) / 10)
    return float(np.mean(shares))


def test_a_graph_that_misses_items_gets_more_candidates(workspace: Workspace) -> None:
    told, vectors = Notes(), noise()
    with released(workspace, vectors, POOR, told) as generation:
        ef = generation.spec.efs["aligned"]
        assert ef in (44, 88)
        reach = generation.manifest.facts["graphs"]["aligned"]
        assert reach["ef"] == ef
        assert reach["found"] >= publish_check.LEAST
        assert found(generation, vectors) >= publish_check.LEAST - publish_check.WORSE
        assert found(replace(generation, index=generation.index.searching({"aligned": 22})), vectors) < 0.9
        assert verify(generation, deep=True) == []
    (note,) = told.notes
    assert f"searches look at {ef} instead" in note
    assert " ms a search" in note
    (line,) = list_generations(workspace)
    assert json.loads(json.dumps(line.to_dict()))["graphs"]["aligned"]["ef"] == ef


def test_where_no_list_is_long_enough_everything_is_scanned(workspace: Workspace) -> None:
    told, vectors = Notes(), noise()
    with released(workspace, vectors, replace(POOR, m=4, ef_construct=8, ef=100), told) as generation:
        assert generation.spec.efs == {"aligned": SCAN}
        assert found(generation, vectors) == 1.0
        assert not generation.index.graphs
        assert generation.manifest.facts["graphs"]["aligned"]["found"] == 1.0
    assert "scan all 1,500 items" in told.notes[0]
    with open_generation(workspace) as again:
        assert found(again, vectors) == 1.0


def test_a_graph_that_finds_enough_stays_as_it_was_set(workspace: Workspace) -> None:
    told = Notes()
    with released(workspace, noise(), replace(POOR, m=16, ef_construct=64, ef=256), told) as generation:
        assert generation.spec.efs == {}
        assert generation.index.graphs == {"aligned"}
        assert generation.manifest.facts["graphs"]["aligned"]["found"] >= publish_check.LEAST
    assert not told.notes


def _shapes() -> Iterator[Any]:
    plain = noise(600)
    yield pytest.param(np.repeat(plain[:1], 600, axis=0), id="one vector only")
    yield pytest.param(np.concatenate([np.repeat(plain[:1], 400, axis=0), plain[:200]]), id="many equal ones")
    yield pytest.param(np.zeros((600, DIM), np.float32), id="zeros")
    yield pytest.param(np.concatenate([np.zeros((500, DIM), np.float32), plain[:100]]), id="many zeros")
    yield pytest.param(np.concatenate([plain[:599], 1e6 * plain[599:]]), id="a long one")
    yield pytest.param(np.concatenate([plain[:599], 1e17 * plain[599:]]), id="a huge one")
    yield pytest.param(1e-18 * plain, id="tiny ones")


@pytest.mark.parametrize("lengthened", [True, False])
@pytest.mark.parametrize("vectors", list(_shapes()))
def test_vectors_of_any_kind_can_be_published(workspace: Workspace, vectors: np.ndarray, lengthened: bool) -> None:
    vectors = vectors.astype(np.float32)
    longest = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
    spec = replace(POOR, lengths={"aligned": longest} if lengthened else {})
    with released(workspace, vectors, spec) as generation:
        assert verify(generation, deep=True) == []
        best = generation.index.top("aligned", vectors[599].tolist(), 10)
        scores = vectors.astype(np.float64) @ vectors[599].astype(np.float64)
        assert best[0][1] == pytest.approx(scores.max(), rel=1e-3)


@pytest.mark.parametrize("wrong", ["scores", "items"])
def test_what_a_scan_gets_wrong_stays_an_error(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    right = EdgeIndex.top

    def top(self: EdgeIndex, *arguments: Any, **more: Any) -> list[tuple[int, float]]:
        best = right(self, *arguments, **more)
        return best[1:] if wrong == "items" else [(row, 1.01 * score) for row, score in best]

    monkeypatch.setattr(EdgeIndex, "top", top)
    with pytest.raises(BackendError, match="misses that item" if wrong == "items" else "wrong scores"):
        released(workspace, noise(), POOR)


def test_a_graph_that_finds_less_than_before_is_no_whole_one(workspace: Workspace) -> None:
    released(workspace, noise(), POOR).close()
    folder = workspace["generations"].require()[0]
    file = folder / "manifest.json"
    written = json.loads(file.read_text("utf-8"))
    assert written["facts"]["spec"]["efs"]
    written["facts"]["spec"]["efs"] = {}
    file.write_text(json.dumps(written), "utf-8")
    artefacts.write_inventory(folder)
    with open_generation(workspace) as generation:
        assert verify(generation) == []
        (problem,) = verify(generation, deep=True)
        assert "of the best items" in problem


def test_a_generation_of_before_is_not_held_to_it(workspace: Workspace) -> None:
    released(workspace, noise(), POOR).close()
    folder = workspace["generations"].require()[0]
    written = json.loads((folder / "manifest.json").read_text("utf-8"))
    del written["facts"]["graphs"], written["facts"]["spec"]["efs"]
    (folder / "manifest.json").write_text(json.dumps(written), "utf-8")
    artefacts.write_inventory(folder)
    assert Manifest.read(folder)
    with open_generation(workspace) as generation:
        assert generation.spec == POOR
        assert verify(generation, deep=True) == []


def test_a_graph_may_miss_the_very_item_that_is_searched_with(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = EdgeIndex._search

    def search(self: EdgeIndex, name: str, query: Any, limit: int, condition: Any, candidates: int) -> Any:
        if candidates == SCAN:
            return right(self, name, query, limit, condition, candidates)
        return right(self, name, query, limit + 1, condition, candidates)[1:]

    monkeypatch.setattr(EdgeIndex, "_search", search)
    vectors = noise(400)
    with released(workspace, vectors, replace(POOR, m=16, ef_construct=64)) as generation:
        assert generation.spec.efs == {"aligned": SCAN}
        assert [generation.index.top("aligned", vectors[n].tolist(), 1)[0][0] for n in range(20)] == list(range(20))


@pytest.mark.parametrize("before", [False, True])
def test_what_a_graph_finds_is_scored_by_whole_vectors(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Also where it is walked by bytes; shards that were made before have none."""
    if before:
        monkeypatch.setattr(edge, "OF_GRAPHS", None)
    vectors = np.concatenate([noise(400), 30 * noise(401)[400:]])
    spec = replace(POOR, m=16, ef_construct=64, ef=128, lengths={"aligned": float(np.linalg.norm(vectors[400]))})
    with released(workspace, vectors, spec) as generation:
        assert bool(list(generation.folder.rglob("quantized.data"))) is not before
        monkeypatch.undo()
        for number in range(0, 400, 40):
            scores = vectors @ vectors[number]
            best = generation.index.top("aligned", vectors[number].tolist(), 5)
            assert best[0][0] == number or best[0][1] >= scores[number]
            assert [score for _, score in best] == pytest.approx(scores[[row for row, _ in best]], rel=1e-5)


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0, 2.0, 6.0])
@pytest.mark.parametrize("missed", [0.009, 0.05, 0.4])
def test_the_first_list_that_is_long_enough_is_found_in_a_few_tries(power: float, missed: float) -> None:
    """And it is the one that trying all of them would choose."""
    steps, tried = [int(256 * 1.15**n) for n in range(40)] + [SCAN], []

    def reach(ef: int) -> publish_check.Reach:
        tried.append(ef)
        return publish_check.Reach(1.0 if ef == SCAN else 1 - missed * (256 / ef) ** power, ef, 1.0)

    first, last = publish_check._first_enough(steps, reach, 0.992)
    assert len(tried) <= 8
    assert (first.ef, last) == (256, next(one for one in map(reach, steps) if one.found >= 0.992))
