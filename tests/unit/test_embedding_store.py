from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from molar_retrieval.embedding.plan import Plan
from molar_retrieval.embedding.records import RECORD, Status, finished, image_stamp, item_key
from molar_retrieval.embedding.rowfile import RowFile, open_vectors, read_tensor_header, tensor_header, vector_dtype
from molar_retrieval.embedding.source import Scan
from molar_retrieval.embedding.store import Store
from molar_retrieval.errors import StaleArtefactError


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (7, 3), (1000, 384)])
def test_any_safetensors_reader_opens_the_file(tmp_path: Path, count: int, dim: int) -> None:
    path = tmp_path / "v.safetensors"
    file = RowFile.create(path, vector_dtype(dim), count, header=tensor_header(count, dim))
    rows = np.arange(count)
    values = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
    file.write(rows, values)
    file.close()
    with safe_open(path, "numpy") as opened:
        np.testing.assert_array_equal(opened.get_tensor("vectors"), values)
    assert read_tensor_header(path)[:2] == (count, dim)
    assert read_tensor_header(path)[2] % 64 == 0


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_rows_in_any_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    path = tmp_path_factory.mktemp("rows") / "rows"
    file = RowFile.create(path, vector_dtype(3), count, header=b"head")
    expected = np.zeros((count, 3), np.float32)
    for step in range(data.draw(st.integers(0, 5))):
        rows = np.array(data.draw(st.lists(st.integers(0, count - 1), unique=True)), np.int64)
        values = np.full((len(rows), 3), step + 1, np.float32) + rows[:, None]
        file.write(rows, values)
        expected[rows] = values
    wanted = np.array(data.draw(st.lists(st.integers(0, count - 1))), np.int64)
    np.testing.assert_array_equal(file.take(wanted), expected[wanted])
    np.testing.assert_array_equal(file.read(0, count), expected)
    assert path.read_bytes()[:4] == b"head"
    file.close()


def test_file_that_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_bytes(tensor_header(4, 2) + bytes(31))
    with pytest.raises(StaleArtefactError, match="too short"):
        open_vectors(path)
    with pytest.raises(OSError, match="ends before row 3"):
        RowFile(path, vector_dtype(50), 3).read(0, 3)


def test_record_and_vector_belong_together(tmp_path: Path) -> None:
    store = Store.create(tmp_path, 4, 8)
    records = np.zeros(2, RECORD)
    records["key"], records["status"] = 7, Status.DONE
    vectors = np.ones((2, 8), np.float32)
    vectors[1] = 0
    store.write(np.array([3, 1]), vectors, records, {3: "dark"})
    (_, found, whole), *_ = store.chunks()
    assert whole.tolist() == [False, True, False, True]
    assert found["status"].tolist() == [Status.EMPTY, Status.BLANK, Status.EMPTY, Status.DONE]
    vectors = store.vectors.read(0, 4).copy()
    vectors[3, 2] += 1e-6
    assert finished(found, vectors).tolist() == [False, True, False, False]
    found = found.copy()
    found["key"][1] = 8
    assert finished(found, vectors).tolist() == [False] * 4
    store.close()


def test_reasons_survive_a_torn_line_and_are_withdrawn(tmp_path: Path) -> None:
    store = Store.create(tmp_path, 3, 2)
    records = np.zeros(1, RECORD)
    records["status"] = Status.DONE
    ones = np.ones((1, 2), np.float32)
    store.write(np.array([0]), ones, records, {0: "first"})
    store.write(np.array([1]), ones, records, {1: "sec\nond"})
    with (tmp_path / "reasons.jsonl").open("a") as file:
        file.write('\n[2, "tor')
    store.close()
    store = Store.open(tmp_path, writable=True)
    assert store.reasons == {0: "first", 1: "sec\nond"}
    store.write(np.array([0]), ones, records)
    store.write(np.array([2]), ones, records, {2: "third"})
    store.close()
    store = Store.open(tmp_path, writable=False)
    assert store.reasons == {1: "sec\nond", 2: "third"}
    store.close()


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
def test_plan(items: list[tuple[int, bool, bool]], batch_size: int) -> None:
    lengths, photos, pending = (np.array(column) for column in zip(*items, strict=True))
    zeros = np.zeros(len(items), np.int64)
    plan = Plan.make(Scan(lengths.astype(np.int32), photos, zeros, zeros, 0, "x"), pending, batch_size)
    numbers = plan.unfinished(np.zeros(len(items), bool))
    batches = [plan.rows(number).tolist() for number in numbers]
    assert sorted(row for batch in batches for row in batch) == np.flatnonzero(pending).tolist()
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(batch == sorted(batch) and batch for batch in batches)
    costs = [[-(lengths[row] // 32) for row in batch] for batch in batches]
    assert all(max(a) <= min(b) for a, b in pairwise(costs))
    done = np.zeros(len(items), bool)
    if numbers:
        done[batches[0]] = True
        assert plan.unfinished(done) == numbers[1:]
