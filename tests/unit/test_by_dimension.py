"""Numbers of sparse vectors in the order of their dimensions: the same however few are sorted at a time."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molar_indexes import item_store
from molar_indexes.item_store import ByDimension
from molar_indexes.records import checked, joined
from molar_retrieval.errors import DataError
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.workspace.tensors import TensorsWriter, mapped


def written(path: Path, blocks: list[list[set[int]]]) -> tuple[list[int], list[int], list[float]]:
    """Of items in blocks, which have a number in each of some dimensions."""
    row = 0
    with TensorsWriter(path) as tensors, TemporaryFile() as spool:
        entries = ByDimension(spool)
        for block in blocks:
            sizes = [len(own) for own in block]
            dimensions = np.array([d for own in block for d in sorted(own)], np.int64)
            items = np.repeat(np.arange(row, row + len(block)), sizes)
            entries.add(items, dimensions, (1000 * items + dimensions).astype(np.float32))
            row += len(block)
        count = entries.append_to(tensors)
    found = mapped(path)
    assert len(found["item_item.items"]) == len(found["item_item.values"]) == count
    assert [found[f"item_item.{name}"].dtype.str for name in ("starts", "items", "values")] == ["<i8", "<i4", "<f4"]
    starts, items, values = (found[f"item_item.{name}"].tolist() for name in ("starts", "items", "values"))
    return starts, items, values


@given(st.lists(st.lists(st.sets(st.integers(0, 9)), max_size=5), max_size=8), st.integers(1, 20))
def test_runs_of_any_length_give_what_one_sort_gives(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[set[int]]], run: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_store, "_RUN", run)
        starts, items, values = written(tmp_path_factory.mktemp("table") / "t", blocks)
    wanted = sorted((d, row) for row, own in enumerate(own for block in blocks for own in block) for d in own)
    width = max((d + 1 for d, _ in wanted), default=0)
    assert starts == [sum(d < n for d, _ in wanted) for n in range(width + 1)]
    assert items == [row for _, row in wanted]
    assert values == [1000.0 * row + d for d, row in wanted]


def outcome(work: Callable[[], object]) -> object:
    """What comes of it, or what is said of a damage."""
    try:
        return work()
    except DataError as error:
        return str(error)


vectors = st.lists(
    st.tuples(st.lists(st.integers(-1, 6), max_size=4), st.lists(st.sampled_from([0.0, 1.5, 1e39]), max_size=4)),
    max_size=4,
)


@given(vectors)
def test_joined_vectors_are_those_that_are_checked_one_by_one(given: list[tuple[list[int], list[float]]]) -> None:
    sparse = [SparseVector(*one) for one in given]

    def apart() -> tuple[list[int], list[int], list[float]]:
        kept = [checked(f"item {n}", one) for n, one in enumerate(sparse)]
        every = [[x for own in side for x in own.tolist()] for side in zip(*kept, strict=True)] or [[], []]
        return [len(own) for own, _ in kept], every[0], every[1]

    def together() -> tuple[list[int], list[int], list[float]]:
        sizes, indices, values = joined(sparse, lambda n: f"item {n}")
        return sizes, indices.tolist(), values.tolist()

    assert outcome(together) == outcome(apart)
