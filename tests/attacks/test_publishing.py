"""Publishing: what is stored is proved exactly, what graphs find is measured."""

from collections.abc import Iterator

import numpy as np
import pytest

from molar_indexes import edge, publish_check
from molar_indexes.equal_lengths import longest
from molar_indexes.generations import publish
from molar_indexes.users import UserRecord
from molar_indexes.verify import verify
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec
from molar_retrieval.rng import generator
from molar_retrieval.workspace.artefacts import Workspace

DIM = 128


def published_share(workspace: Workspace, vectors: np.ndarray, spec: IndexSpec) -> tuple[float, str]:
    """Publish; the share of the best ten that is found for new queries, worked out here, and how it is searched."""
    items = (IndexItem(row, f"item {row}", {"aligned": vector.tolist()}, {}) for row, vector in enumerate(vectors))
    people = (UserRecord(f"user {n}", vectors[n] + vectors[-n], [n], times=[0]) for n in range(100))
    with publish(workspace, backend="edge", spec=spec, items=items, users=people, popular=[], inputs={}) as generation:
        assert verify(generation, deep=True) == []
        shares = []
        for query in generator(1, "queries").normal(size=(60, DIM)).astype(np.float32):
            scores = vectors @ query
            least = np.sort(scores)[-10]
            top = generation.index.top("aligned", query.tolist(), 10)
            shares.append(np.mean([scores[row] >= least - 1e-4 * abs(least) for row, _ in top]))
            assert len({row for row, _ in top}) == 10
        reach = generation.manifest.facts["graphs"]["aligned"]
        how = f"{reach['ef']:,} candidates" if reach["ef"] else "scans"
        return float(np.mean(shares)), f"{how}, {reach['milliseconds']} ms"


def test_unstructured_vectors(tmp_path, rounds, measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little a graph finds, publishing ends with a generation that finds the best items."""
    count = rounds(2_000, 300_000)
    full = count > 2_000
    if not full:
        monkeypatch.setattr(edge, "FULL_SCAN_KB", 100)
    (tmp_path / "shop").mkdir()
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    vectors = generator(0, "noise").normal(size=(count, DIM)).astype(np.float32)
    poor = {} if full else {"m": 8, "ef_construct": 16, "ef": 22}
    spec = IndexSpec({"aligned": DIM}, lengths={"aligned": longest(vectors)}, **poor)
    share, how = published_share(workspace, vectors, spec)
    assert share >= publish_check.LEAST - publish_check.WORSE
    measured(f"{count:,} random vectors of {DIM}: {share:.1%} of the best ten found ({how})")


def _strange(plain: np.ndarray) -> Iterator[np.ndarray]:
    half = len(plain) // 2
    yield np.concatenate([np.repeat(plain[:1], half, axis=0), plain[half:]])
    yield np.concatenate([np.zeros_like(plain[:half]), plain[half:]])
    yield np.concatenate([plain[:-1], np.float32(1e6) * plain[-1:]])


def test_strange_vectors(tmp_path, rounds, measured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of equal vectors, of zeros, and a huge one are published and found."""
    count = rounds(600, 20_000)
    monkeypatch.setattr(edge, "FULL_SCAN_KB", 100)
    plain = generator(0, "noise").normal(size=(count, DIM)).astype(np.float32)
    found = []
    for number, vectors in enumerate(_strange(plain)):
        (tmp_path / f"shop{number}").mkdir()
        workspace = Workspace.for_catalogue(tmp_path / f".molar{number}", tmp_path / f"shop{number}")
        spec = IndexSpec({"aligned": DIM}, m=8, ef_construct=16, lengths={"aligned": longest(vectors)})
        found.append(published_share(workspace, vectors, spec))
        assert found[-1][0] >= publish_check.LEAST - publish_check.WORSE
    measured("; ".join(f"{share:.1%} ({how})" for share, how in found))
