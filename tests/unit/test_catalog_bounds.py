"""Bounds on tables: what is refused, what is set aside, and what stays as it is."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data import rows as bounds
from molar_retrieval.data.readers import ParquetReader
from molar_retrieval.data.rows import Rejects, RowBatch, check_names, unpacked_bytes, within_limits
from molar_retrieval.errors import DataError

BRANDS = ["red", None, "blue", "red"]


def _rows(**columns):
    batch = pa.record_batch(columns)
    return RowBatch(np.arange(1, len(batch) + 1), batch)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a"], "two columns called 'a'"),
        (["a", "b" * 1_001], "the name of column 2 has 1,001 characters"),
        ([str(n) for n in range(10_001)], "has 10,001 columns"),
    ],
)
def test_columns_that_are_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        check_names(tmp_path / "x", names)
    check_names(tmp_path / "x", names[:1])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_values_that_are_too_large_cost_their_row(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(bounds, "LONGEST_VALUE", 5)
    monkeypatch.setattr(bounds, "MOST_ELEMENTS", 2)
    words = pa.array(["fine", "too long", None, "fünf"]).cast(pa.string())
    words = words.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else words.cast(kind)
    lists = pa.array([["a"], ["b"], ["a", "b", "c"], ["too long"]])
    with Rejects(tmp_path / "rejects.parquet") as rejects:
        rows = within_limits(_rows(words=words, lists=lists), "x", rejects)
    assert rows.numbers.tolist() == [1]
    assert [row["row"] for row in pq.read_table(tmp_path / "rejects.parquet").to_pylist()] == [2, 3, 4]


def test_what_fits_is_not_touched():
    rows = _rows(words=BRANDS, numbers=[1, 2, 3, 4])
    assert within_limits(rows, "x", None) is rows


def test_the_size_of_what_is_packed():
    packed = pa.array(["x" * 100_000, "y", None, "x" * 100_000]).dictionary_encode()
    assert unpacked_bytes(packed) == 200_001 + 4 * 4
    assert unpacked_bytes(packed.dictionary) == packed.dictionary.nbytes


@pytest.mark.parametrize("encoding", [True, False])
def test_packed_strings_come_as_they_are(tmp_path, encoding):
    table = pa.table({"item_id": [f"i{k}" for k in range(400)], "brand": BRANDS * 100, "seen": range(400)})
    pq.write_table(table, tmp_path / "items.parquet", use_dictionary=encoding, row_group_size=150)
    source = ParquetReader(tmp_path / "items.parquet")
    batches = list(source.batches(["seen", "brand", "item_id"], 64))
    assert pa.Table.from_batches([rows.batch for rows in batches]).equals(table.select(["seen", "brand", "item_id"]))
    assert np.concatenate([rows.numbers for rows in batches]).tolist() == list(range(1, 401))
    assert source.schema.field("brand").type == pa.string()


def test_views_come_as_strings(tmp_path):
    table = pa.table(
        {"item_id": pa.array(["a", "b"], pa.string_view()), "tags": pa.array([["x"], None], pa.list_(pa.string_view()))}
    )
    pq.write_table(table, tmp_path / "items.parquet")
    source = ParquetReader(tmp_path / "items.parquet")
    (rows,) = source.batches(["tags", "item_id"], 9)
    assert source.schema.types == [pa.string(), pa.list_(pa.string())]
    assert rows.batch.to_pydict() == {"tags": [["x"], None], "item_id": ["a", "b"]}
