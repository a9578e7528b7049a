from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from molar_retrieval.embedding.content_vectors import ContentScan
from molar_retrieval.embedding.pipeline import PendingTexts, batches_of
from molar_retrieval.embedding.vector_cache import (
    EncodedBatch,
    ShardWriter,
    image_stamp,
    item_key,
    next_shard,
    read_shard,
    shard_paths,
)
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.workspace.tensors import MatrixWriter, mapped, pieces


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (7, 3), (1000, 384)])
def test_any_safetensors_reader_opens_the_file(tmp_path: Path, count: int, dim: int) -> None:
    path = tmp_path / "v.safetensors"
    values = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    with MatrixWriter(path, "vectors", (count, dim)) as file:
        file.write(np.arange(count), values)
    with safe_open(path, "numpy") as opened:
        np.testing.assert_array_equal(opened.get_tensor("vectors"), values)
    found = mapped(path)["vectors"]
    np.testing.assert_array_equal(found, values)
    assert isinstance(found.base, np.memmap)
    assert (path.stat().st_size - values.nbytes) % 64 == 0


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_rows_in_any_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    path = tmp_path_factory.mktemp("rows") / "rows"
    expected = np.zeros((count, 3), np.float32)
    with MatrixWriter(path, "v", (count, 3)) as file:
        for step in range(data.draw(st.integers(0, 5))):
            rows = np.array(data.draw(st.lists(st.integers(0, count - 1), unique=True)), np.int64)
            values = np.full((len(rows), 3), step + 1, np.float32) + rows[:, None]
            file.write(rows, values)
            expected[rows] = values
    np.testing.assert_array_equal(mapped(path)["v"], expected)
    found = list(pieces(path, "v", data.draw(st.integers(1, 31))))
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in found]), expected)
    assert [first for first, _ in found] == np.cumsum([0, *(len(piece) for _, piece in found)])[:-1].tolist()


def test_what_is_written_to_a_map_stays_in_the_process(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with MatrixWriter(path, "vectors", (2, 3)) as file:
        file.write(np.arange(2), np.ones((2, 3), np.float32))
    own = mapped(path, writable=True)["vectors"]
    own += 1
    assert own.sum() == 12
    with pytest.raises(ValueError, match="read-only"):
        mapped(path)["vectors"][0] = 0
    np.testing.assert_array_equal(mapped(path)["vectors"], np.ones((2, 3)))


def test_file_that_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with MatrixWriter(path, "vectors", (4, 2)):
        pass
    whole = path.read_bytes()
    for size in (len(whole) - 1, 70, 20, 3, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="too short"):
            mapped(path)
        with pytest.raises(ValueError, match="too short"):
            next(pieces(path, "vectors"))
    for text in (b"[]", b'{"v": 1}', b'{"v": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}'):
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        with pytest.raises(ValueError, match="damaged"):
            mapped(path)


BLOCKS = (VectorBlock("text", 0, 8),)


def rows_of(keys: list[bytes | None], reasons: list[str | None]) -> dict[str, list[Any]]:
    n = len(keys)
    photos = {"image": ["a.png"] * n, "image_size": [3] * n, "image_mtime": [4] * n, "image_hash": [b"h" * 16] * n}
    return {"key": keys, **photos, "reason": reasons}


def written(folder: Path) -> Path:
    """A shard of three batches of 2, 1 and 2 items."""
    with ShardWriter(next_shard(folder), "w", BLOCKS, 8) as shard:
        for number, size in enumerate((2, 1, 2)):
            keys = [bytes([number, i]) * 8 for i in range(size)]
            rows = np.arange(size) + 10 * number
            shard.append(rows, rows_of(keys, ["dark", None][:size]), np.full((size, 8), number, np.float32))
    return shard.path


def read(path: Path) -> list[EncodedBatch]:
    blocks, batches = read_shard(path)
    assert blocks == BLOCKS
    return list(batches)


def test_batches_come_back_as_they_were(tmp_path: Path) -> None:
    batches = read(written(tmp_path))
    assert [(batch.work, batch.rows.tolist(), batch.vectors.shape) for batch in batches] == [
        ("w", [0, 1], (2, 8)),
        ("w", [10], (1, 8)),
        ("w", [20, 21], (2, 8)),
    ]
    assert batches[2].vectors.tolist() == [[2.0] * 8] * 2
    assert batches[2].items["key"].to_pylist() == [bytes([2, 0]) * 8, bytes([2, 1]) * 8]
    assert batches[0].items["reason"].to_pylist() == ["dark", None]
    again = written(tmp_path)
    assert shard_paths(tmp_path) == [tmp_path / "000001.arrow", again]


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    random = np.random.default_rng(1)
    for place in random.integers(0, len(data), 300).tolist():
        yield place, data[:place] + bytes([data[place] ^ (1 << int(random.integers(8)))]) + data[place + 1 :]


def test_batches_are_whole_or_not_there(tmp_path: Path) -> None:
    """A flipped bit and a torn end never make another batch of one; all before a torn end stay."""
    path = written(tmp_path)
    data, right = path.read_bytes(), [(b.work, b.items, b.vectors.tolist()) for b in read(path)]
    lost = 0
    for _, flipped in flips(data):
        path.write_bytes(flipped)
        try:
            found = [(b.work, b.items, b.vectors.tolist()) for b in read(path)]
        except (OSError, ValueError):
            found = []
        except AssertionError:  # of the blocks: then no batch may be taken for whole
            assert list(read_shard(path)[1]) == []
            found = []
        assert all(one in right for one in found)
        lost += len(found) < 3
    assert lost > 200
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        try:
            found = [(b.work, b.items, b.vectors.tolist()) for b in read(path)]
        except (OSError, ValueError):
            found = []
        assert found == right[: len(found)]


def test_texts_are_fetched_in_any_order(tmp_path: Path) -> None:
    with PendingTexts(tmp_path / "new", 5) as texts:
        texts.add(1, "two\nlines", None)
        texts.add(3, None, "a\udcff.png")
        texts.add(4, "", "b.png")
        assert texts.fetch([4, 1, 3, 1]) == [
            ("", "b.png"),
            ("two\nlines", None),
            (None, "a\udcff.png"),
            ("two\nlines", None),
        ]
    assert list((tmp_path / "new").iterdir()) == []


def test_keys_tell_everything_apart() -> None:
    keys = [
        item_key("e", None, None),
        item_key("e", "", None),
        item_key("e", "t", None),
        item_key("f", "t", None),
        item_key("e", "t", b"h" * 16),
        item_key("e", None, b"h" * 16),
        item_key("et", None, None),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {16}
    stamps = {image_stamp("a", 1, 2), image_stamp("a", 12, 2), image_stamp("a", 1, 22), image_stamp("a\0001", 2, 2)}
    assert len(stamps) == 4


@given(
    st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.booleans()), min_size=1, max_size=60), st.integers(1, 9)
)
@settings(deadline=None, max_examples=60)
def test_batches(items: list[tuple[int, bool, bool]], batch_size: int) -> None:
    lengths, photos, pending = (np.array(column) for column in zip(*items, strict=True))
    zeros = np.zeros(len(items), np.int64)
    scan = ContentScan(lengths.astype(np.int32), photos, zeros, zeros, 0, "x")
    batches = [rows.tolist() for rows in batches_of(scan, pending, batch_size)]
    assert sorted(row for batch in batches for row in batch) == np.flatnonzero(pending).tolist()
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(batch == sorted(batch) and batch for batch in batches)
    costs = [[-(lengths[row] // 32) for row in batch] for batch in batches]
    assert all(max(a) <= min(b) for a, b in pairwise(costs))
