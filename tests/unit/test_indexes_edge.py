"""What is particular to the embedded engine: the graph, its files, damages, what it imports."""

import errno
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from molar_indexes import edge
from molar_indexes import edge as indexes_edge
from molar_indexes.backends import BACKENDS, Backend, build_index, open_index
from molar_indexes.edge import EdgeIndex, restate
from molar_retrieval.errors import BackendError, DiskError, SettingsError, StaleArtefactError
from molar_retrieval.ranking.filters import Between, Equals
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, SparseVector, StoredItem

DIM = 32


def shop(n: int) -> tuple[np.ndarray, list[IndexItem]]:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(20, DIM))
    matrix = (centres[rng.integers(0, 20, n)] + rng.normal(size=(n, DIM))).astype(np.float32)
    matrix[:, 0] += rng.pareto(2, n)  # some are on everybody's list
    items = [
        IndexItem(
            r, str(r), {"v": v.tolist()}, {"half": r % 2, "p": r / n}, {"s": SparseVector([r % 50], [1.0 + r / n])}
        )
        for r, v in enumerate(matrix)
    ]
    return matrix, items


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, EdgeIndex]:
    """An index that is small enough for a test, with a graph all the same."""
    folder = tmp_path_factory.mktemp("graph") / "i"
    matrix, items = shop(3000)
    longest = float(np.linalg.norm(matrix, axis=1).max())
    spec = IndexSpec({"v": DIM}, {"half": "integer", "p": "float"}, sparse=("s",), lengths={"v": longest})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexes_edge, "FULL_SCAN_KB", 10)
        build_index(folder, "edge", spec, items)
        return matrix, EdgeIndex(folder, spec)


@pytest.mark.parametrize(
    ("where", "hidden"),
    [(None, 0), (None, 165), (None, 1500), (Equals("half", 1), 165), (Between("p", lt=0.3), 0)],
    ids=str,
)
def test_recall_of_the_graph(graph: tuple[np.ndarray, EdgeIndex], where: Equals | Between | None, hidden: int) -> None:
    matrix, index = graph
    rng = np.random.default_rng(1)
    found = []
    for _ in range(30):
        query = matrix[rng.integers(0, 3000)] + rng.normal(size=DIM).astype(np.float32)
        hide = rng.choice(3000, hidden, replace=False)
        scores = matrix @ query
        scores[hide] = -np.inf
        if isinstance(where, Equals):
            scores[::2] = -np.inf
        if isinstance(where, Between):
            scores[900:] = -np.inf
        best = set(np.argsort(-scores)[:50].tolist())
        hits = index.top("v", query.tolist(), 50, exclude=hide.tolist(), where=where)
        assert len(hits) == 50
        rows = {row for row, _ in hits}
        assert not rows & set(hide.tolist())
        found.append(len(best & rows) / 50)
    assert np.mean(found) >= 0.97


def test_the_graph_still_finds_everything(graph: tuple[np.ndarray, EdgeIndex]) -> None:
    _, index = graph
    assert sorted(row for row, _ in index.top("v", [1.0] * DIM, 5000)) == list(range(3000))
    assert len(index.top("v", [1.0] * DIM, 2999, exclude=range(2990))) == 10


def test_spaces_and_signs_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "mein Läden #1 %20?"
    build_index(folder, "edge", IndexSpec({"v": 1}), [IndexItem(0, "a", {"v": [1.0]}, {})])
    assert open_index(folder, "edge", IndexSpec({"v": 1})).top("v", [2.0], 1) == [(0, 2.0)]


def test_what_is_built_has_no_segment_without_items(tmp_path: Path) -> None:
    spec = IndexSpec({"v": DIM}, {"half": "integer", "p": "float"}, sparse=("s",))
    items = shop(50)[1]
    build_index(tmp_path / "i", "edge", spec, items)
    assert len(list((tmp_path / "i" / "shard" / "segments").iterdir())) == 1
    other = [StoredItem(7, "7", {"half": 4, "p": 0.5}, {}, {})]
    restate(tmp_path / "i", tmp_path / "restated", spec, other)  # the engine makes a segment for it, fields and all
    assert len(list((tmp_path / "restated" / "shard" / "segments").iterdir())) == 2
    index = EdgeIndex(tmp_path / "restated", spec)
    assert [row for row, _ in index.top("v", [1.0] * DIM, 50, where=Equals("half", 4))] == [7]
    assert len(index.top("v", [1.0] * DIM, 100)) == 50
    index.close()
    build_index(tmp_path / "empty", "edge", spec, [])
    assert open_index(tmp_path / "empty", "edge", spec).top("v", [1.0] * DIM, 5) == []


@pytest.mark.parametrize(
    ("count", "free", "in_memory"), [(50, 1 << 30, True), (1000, 1 << 30, False), (50, 1 << 20, False)]
)
def test_few_items_are_indexed_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, free: int, in_memory: bool
) -> None:
    memory, made = tmp_path / "memory", []
    memory.mkdir()
    monkeypatch.setattr(indexes_edge, "_MEMORY", memory)
    monkeypatch.setattr(indexes_edge.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    insert = edge._insert
    monkeypatch.setattr(edge, "_insert", lambda place, *more: made.append(place) or insert(place, *more))
    matrix, items = shop(count)
    spec = IndexSpec({"v": DIM}, {"half": "integer", "p": "float"}, sparse=("s",))
    if free < 1 << 30:
        monkeypatch.setattr(edge, "reserve_space", lambda *_: None)
        monkeypatch.setattr(edge, "require_space", lambda *_: None)
    build_index(tmp_path / "i", "edge", spec, items)
    assert [place.parent == memory for place in made] == [in_memory]
    assert list(memory.iterdir()) == []
    index = EdgeIndex(tmp_path / "i", spec)
    assert [row for row, _ in index.top("v", matrix[3].tolist(), 5)] == list(np.argsort(-matrix @ matrix[3])[:5])


def test_what_fails_leaves_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(indexes_edge, "_MEMORY", memory)
    monkeypatch.setattr(edge, "copied", full)
    spec = IndexSpec({"v": DIM}, {"half": "integer", "p": "float"}, sparse=("s",))
    with pytest.raises(DiskError, match="no room"):
        build_index(tmp_path / "i", "edge", spec, shop(5)[1])
    assert list(memory.iterdir()) == []


@pytest.mark.parametrize("name", ["edge", "exact"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"{]" * 99),
    ],
    ids=["missing", "empty", "rubbish"],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    spec = IndexSpec({"v": 4}, {"half": "integer"})
    items = [IndexItem(r, str(r), {"v": [1.0, 2.0, 3.0, float(r)]}, {"half": r % 2}) for r in range(50)]
    build_index(tmp_path / "i", name, spec, items)
    pattern = "shard/segments/*/segment.json" if name == "edge" else "vectors.safetensors"
    for file in (tmp_path / "i").glob(pattern):
        damage(file)
    with pytest.raises(StaleArtefactError) as error:
        open_index(tmp_path / "i", name, spec)
    assert "molar align" in error.value.hint


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(BACKENDS, "server", Backend("molar_indexes.no_such_module", "pip install it"))
    with pytest.raises(BackendError) as error:
        open_index(tmp_path, "server", IndexSpec({}))
    assert error.value.hint == "pip install it"


def test_an_unknown_backend_and_field_kind(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="egde") as error:
        open_index(tmp_path, "egde", IndexSpec({}))
    assert "edge" in error.value.hint
    with pytest.raises(SettingsError, match="geo"):
        build_index(tmp_path, "edge", IndexSpec({"v": 1}, {"place": "geo"}), [])


def test_asking_imports_nothing_heavy(tmp_path: Path) -> None:
    spec = IndexSpec({"v": 2}, {"b": "keyword"}, sparse=("s",))
    item = IndexItem(0, "a", {"v": [1.0, 0.0]}, {"b": "x"}, {"s": SparseVector([4], [3.0])})
    build_index(tmp_path / "i", "edge", spec, [item])
    program = f"""
        import sys
        from pathlib import Path
        from molar_indexes.backends import open_index
        from molar_retrieval.ranking.filters import Equals
        from molar_retrieval.ranking.index_protocol import IndexSpec, SparseVector
        spec = IndexSpec({{"v": 2}}, {{"b": "keyword"}}, sparse=("s",))
        index = open_index(Path({str(tmp_path / "i")!r}), "edge", spec)
        assert index.top("v", [1.0, 1.0], 1, where=Equals("b", "x")) == [(0, 1.0)]
        assert index.top("s", SparseVector([4], [2.0]), 1) == [(0, 6.0)]
        assert index.rows(["a"]) == [0] and index.fetch([0])
        heavy = {{"numpy", "torch", "pyarrow", "pydantic", "qdrant_client", "transformers", "scipy"}}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
