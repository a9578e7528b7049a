"""Values on their way in, and the digest of tables."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from molar_retrieval.data.prepare import TableDigest
from molar_retrieval.data.values import (
    STRING_LIST,
    as_payload,
    as_phrase,
    as_strings,
    clean_text,
    payload_type,
    split_lists,
)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([7, None, -1], pa.int8()), ["7", None, "-1"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([1.0, None, float("nan"), 1.5, 1e300]), ["1", None, None, "1.5", "1e+300"]),
        (pa.array(["007", "", None]), ["007", "", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array([b"ok", b"\xff", None]), ["ok", None, None]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([datetime.date(2020, 1, 2)]), ["2020-01-02"]),
        (pa.array([datetime.datetime(2020, 1, 2)], pa.timestamp("s", "UTC")), ["2020-01-02 00:00:00"]),
        (pa.array([decimal.Decimal("1.50")]), ["1.50"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_ids_come_as_written(array, expected):
    assert as_strings(array).to_pylist() == expected


def test_integers_that_pandas_made_floats_stay_exact_up_to_2_to_the_53():
    assert as_strings(pa.array([float(2**53)])).to_pylist() == [str(2**53)]


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (pa.int8(), pa.int64()),
        (pa.uint64(), pa.float64()),
        (pa.float32(), pa.float64()),
        (pa.decimal128(5, 2), pa.float64()),
        (pa.bool_(), pa.bool_()),
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string()),
        (pa.timestamp("ns"), pa.string()),
        (pa.list_(pa.int32()), STRING_LIST),
        (pa.large_list(pa.string()), STRING_LIST),
        (pa.list_(pa.list_(pa.string())), None),
        (pa.struct([("a", pa.int8())]), None),
        (pa.map_(pa.string(), pa.string()), None),
        (pa.duration("s"), None),
    ],
)
def test_payload_types(kind, stored):
    assert payload_type(kind) == stored


def test_payload_of_lists_drops_empty_elements_and_keeps_null_lists():
    array = pa.array([["a", None, ""], None, [], ["b c"]])
    assert as_payload(array, STRING_LIST).to_pylist() == [["a"], None, [], ["b c"]]


def test_payload_of_a_slice_is_that_of_the_slice():
    array = pa.array([["x"], ["a", "b"], None, ["c"]]).slice(1)
    assert as_payload(array, STRING_LIST).to_pylist() == [["a", "b"], None, ["c"]]


def test_fixed_size_lists_are_lists():
    array = pa.array([["a", "b"], ["c", None]], pa.list_(pa.string(), 2))
    assert as_payload(array, STRING_LIST).to_pylist() == [["a", "b"], ["c"]]


def test_clean_text():
    dirty = pa.array(["  a\x00b\t\r\n c\u00a0\u3000d\u200b ", "e\u0301", "\ufeff \n", None, "👩\u200d🚀", "x\x1fy"])
    assert clean_text(dirty).to_pylist() == ["ab c d", "é", None, None, "👩\u200d🚀", "x y"]


def test_phrases_of_lists_join_what_is_there():
    assert as_phrase(pa.array([["a ", None, " b\n"], [], None, [""]])).to_pylist() == ["a, b", None, None, None]


def test_split_lists():
    assert split_lists(pa.array(["a| b |", "", None, "c"]), "|").to_pylist() == [["a", "b"], [], None, ["c"]]


def _digest(table, sizes):
    digest, start = TableDigest(), 0
    for size in [*sizes, len(table)]:
        for batch in table.slice(start, size).to_batches():
            digest.update(batch)
        start += size
    return digest.result()


def _table(**changes):
    columns = {
        "s": ["a", None, "bc", ""],
        "l": [["x"], None, [], ["y", "zz"]],
        "i": [1, None, 3, 4],
        "f": [0.5, 1.5, None, np.inf],
        "b": [True, None, False, True],
    }
    kinds = {"s": pa.string(), "l": STRING_LIST, "i": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
    return pa.table({name: pa.array(changes.get(name, values), kinds[name]) for name, values in columns.items()})


def test_digest_does_not_see_batch_borders():
    table = _table()
    assert _digest(table, [1, 2]) == _digest(table, []) == _digest(table, [3])


@pytest.mark.parametrize(
    "changes",
    [
        {"s": ["a", "", "bc", ""]},
        {"s": ["ab", None, "c", ""]},
        {"l": [["x"], [], [], ["y", "zz"]]},
        {"l": [["x", "y"], None, [], ["zz"]]},
        {"i": [1, 0, 3, 4]},
        {"b": [True, False, False, True]},
    ],
)
def test_digest_sees_every_change(changes):
    assert _digest(_table(**changes), []) != _digest(_table(), [])
