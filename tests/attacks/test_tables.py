"""Tables from outside.

Columns, values and files that are made to break whoever reads them: each costs its rows, or is refused with a remedy.
"""

import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_tables import ROWS, N, Way, garbled, write_items, write_log
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molar_retrieval import limits
from molar_retrieval.errors import DataError

BIG, FAR = 9 * 10**18, 2**62


def _edge(kind):
    return pa.array([FAR, -FAR] * (N // 2), pa.int64()).view(kind)


def test_columns_of_every_type(tmp_path, measured):
    """Integers of 19 digits, decimals, dates beyond the calendar and nested values in any column stop no step."""
    columns = {
        "int19": pa.array([BIG + k for k in range(N)]),
        "edges": pa.array([2**63 - 1, -(2**63)] * (N // 2)),
        "uint64": pa.array([2**64 - 1 - k for k in range(N)], pa.uint64()),
        "decimal": pa.array([decimal.Decimal("9" * 70)] * N, pa.decimal256(76, 0)),
        "huge": pa.array([1e308, -1e308, 5e-324] * (N // 3)),
        "broken": pa.array([np.nan, np.inf, None] * (N // 3), pa.float64()),
        "moment": _edge(pa.timestamp("us")),
        "elsewhere": _edge(pa.timestamp("ms", "Mars/Olympus")),
        "day": pa.array([2**31 - 1, -(2**31)] * (N // 2), pa.int32()).view(pa.date32()),
        "clock": _edge(pa.time64("ns")),
        "duration": pa.array(range(N), pa.duration("s")),
        "bytes": pa.array([b"\xff\xfe", b"x"] * (N // 2)),
        "struct": pa.array([{"a": 1}] * N),
        "map": pa.array([[("a", 1)]] * N, pa.map_(pa.string(), pa.int64())),
        "lists": pa.array([[["a"]]] * N),
        "list_of_nothing": pa.array([[None]] * N, pa.list_(pa.null())),
        "dictionary": pa.array(["a", None] * (N // 2)).dictionary_encode(),
        "large": pa.array([["a"], None] * (N // 2), pa.large_list(pa.large_string())),
        "nothing": pa.nulls(N),
        "row": ["x"] * N,
        "text": ["x"] * N,
        "a.b": ["x"] * N,
        "": ["x"] * N,
        "c\x1b[31m\n": ["nul \0 and \ufeff"] * N,
        "{0}": ["x"] * N,
    }
    write_items(tmp_path / "shop", **columns)
    write_log(tmp_path / "shop")
    said = Way(tmp_path / "shop").all()
    assert set(said.values()) == {None}
    measured(f"{len(columns)} kinds of columns, {len(said)} steps")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("weight", pa.array([[1]] * ROWS)),
        ("weight", pa.array([1] * ROWS, pa.duration("s"))),
        ("weight", pa.array([1] * ROWS, pa.timestamp("ms"))),
        ("position", pa.array([{"a": 1}] * ROWS)),
        ("event", pa.array([["a"]] * ROWS)),
        ("timestamp", pa.array([1] * ROWS, pa.time64("us"))),
        ("user_id", pa.array([["a"]] * ROWS)),
        ("item_id", pa.array([{"a": 1}] * ROWS)),
    ],
)
def test_columns_of_a_log_that_cannot_be_what_they_are_called(tmp_path, column, values):
    """A column of the log that can be no id, number or time is refused with file, name and remedy before the work."""
    write_items(tmp_path / "shop")
    write_log(tmp_path / "shop", **{column: values})
    way = Way(tmp_path / "shop")
    assert any("holds" in reason for reason in way.check().unusable)
    error = way.all()["log"]
    assert f"interactions.parquet: the {column} column '{column}' holds" in error.message
    assert "catalog.toml" in error.hint


def test_weights_that_nothing_can_hold(tmp_path):
    """A weight of 1e38, infinity, zero or no number costs its row, by number; the factors of the others are made."""
    bad = [1e38, 3.4e38, 1e308, np.inf, -1.0, 0.0, 1e-300]
    write_items(tmp_path / "shop")
    write_log(tmp_path / "shop", weight=pa.array([*bad, *[1.0] * (ROWS - len(bad))]))
    way = Way(tmp_path / "shop")
    assert set(way.all().values()) == {None}
    rejects = way.rejects("interactions")
    assert [row for _, row, _ in rejects] == list(range(1, len(bad) + 1))
    assert all(file == "interactions.parquet" and reason.startswith("weight is not") for file, _, reason in rejects)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([FAR, -FAR] * (ROWS // 2)).view(pa.timestamp("us", "Mars/Olympus")),
        pa.array([2**31 - 1, -(2**31)] * (ROWS // 2), pa.int32()).view(pa.date32()),
        pa.array([FAR, -FAR] * (ROWS // 2)).view(pa.date64()),
        garbled(ROWS),
    ],
)
def test_moments_beyond_the_calendar(tmp_path, times):
    """Times of the log beyond the calendar, in unknown zones or not in Unicode are set aside row by row."""
    write_items(tmp_path / "shop")
    stamps = pa.concat_arrays([times.slice(0, 4), times.slice(4)])
    write_log(tmp_path / "shop", timestamp=stamps)
    error = Way(tmp_path / "shop").all()["log"]
    assert f"none of its {ROWS} rows" in error.message or "none of its 0 rows" in error.message


def test_strings_that_are_no_unicode(tmp_path):
    """Strings in Parquet that are not UTF-8 cost their rows, by number, in every column and encoding."""
    for name, column in {"title": garbled(N), "note": garbled(N).dictionary_encode()}.items():
        column = pa.concat_arrays([pa.array(["fine"] * (N - 3)).cast(pa.string()), _plain(column).slice(0, 3)])
        folder = tmp_path / name
        write_items(folder, **{name: column})
        write_log(folder)
        way = Way(folder)
        assert set(way.all().values()) == {None}
        assert [row for _, row, _ in way.rejects("catalogue")] == [N - 2, N - 1, N]


def _plain(array):
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _same(rows, size):
    """One value of some bytes in many rows."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * size]))


BOMBS = {
    "rows of nothing": lambda big: {"item_id": pa.nulls(big * 10_000_000, pa.string())},
    "one value": lambda big: {"item_id": [f"i{k}" for k in range(20_000)], "title": _same(20_000, 1_000_000)},
    "one list": lambda big: {"item_id": ["a"], "x": pa.array([[True] * (big * 1_000_000)])},
    "one text": lambda big: {"item_id": [f"i{k}" for k in range(8)], "title": ["y" * (big * 30_000_000)] * 8},
}


@pytest.mark.parametrize("name", BOMBS)
def test_files_that_unpack_to_far_more(tmp_path, rounds, measured, name):
    """A Parquet file that claims or unpacks to far more than its size can hold is refused in bounded memory."""
    table = pa.table(BOMBS[name](rounds(1, 10)))
    pq.write_table(table, tmp_path / "items.parquet", compression="zstd")
    del table
    before = pa.default_memory_pool().bytes_allocated()
    with pytest.raises(DataError, match=r"claims|unpacks|values in|bytes in"):
        Way(tmp_path).catalogue()
    assert pa.default_memory_pool().bytes_allocated() - before < 64 << 20
    measured(f"{(tmp_path / 'items.parquet').stat().st_size:,} bytes")


OK = "".join(f"i{k},thing {k}\n" for k in range(N))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv", "item_id,title\n" + OK + 'z,"' + "y\n" * 12_000_000, "after row 30 comes one of more than"),
        ("items.csv", "item_id" * 3_000_000, "its first line has"),
        ("items.csv", "item_id," + ",".join(f"c{k}" for k in range(10_000)) + "\n", "has 10,001 columns"),
        ("items.csv", "item_id," + "c" * 1_001 + "\na,b\n", "the name of column 2 has 1,001 characters"),
        ("items.jsonl", '{"item_id": "z", ' + ", ".join(f'"k{k}": 1' for k in range(10_000)) + "}", "10,001 columns"),
    ],
)
def test_text_files_without_an_end(tmp_path, name, content, message):
    """Quotes that are never closed, endless lines and thousands of columns are refused with row and remedy."""
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message) as caught:
        Way(tmp_path).catalogue()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "row"),
    [
        ("items.csv", "item_id,title\n" + OK + "z," + "y" * 2_000_000 + "\n", "value too large: in the column 'title'"),
        ("items.jsonl", '{"item_id": "a"}\n{"item_id": "z", "x": "' + "y" * 9_000_000 + '"}\n', "line too long"),
    ],
)
def test_rows_without_an_end(tmp_path, name, content, row):
    """A field or a line of megabytes costs its row and no other."""
    (tmp_path / name).write_text(content, "utf-8")
    way = Way(tmp_path)
    assert way.catalogue().facts["rejects"] == 1
    ((_, number, reason),) = way.rejects("catalogue")
    assert reason.startswith(row)
    assert number == content.rstrip().count("\n") + (name == "items.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        "items = " + "[" * 5_000 + "]" * 5_000,
        "[items]\nitem_id = " + "9" * 5_000,
        "#" * (limits.TOML + 1),
        "[items]\nlists = ['item_id']",
    ],
)
def test_settings_of_a_catalogue(tmp_path, text):
    """A catalog.toml that is nested without an end, huge, or splits ids is refused with a remedy."""
    write_items(tmp_path / "shop")
    (tmp_path / "shop" / "catalog.toml").write_text(text)
    said = Way(tmp_path / "shop").all()
    assert "catalog.toml" in list(said.values())[-1].message


VALUES = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=6, max_size=6).map(
        lambda v: pa.array(v, pa.int64())
    ),
    st.lists(st.none() | st.floats(), min_size=6, max_size=6).map(lambda v: pa.array(v, pa.float64())),
    st.lists(st.none() | st.text(max_size=5), min_size=6, max_size=6).map(lambda v: pa.array(v, pa.string())),
    st.lists(st.none() | st.binary(max_size=5), min_size=6, max_size=6).map(lambda v: pa.array(v, pa.binary())),
    st.lists(st.none() | st.booleans(), min_size=6, max_size=6).map(lambda v: pa.array(v, pa.bool_())),
    st.lists(st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3), min_size=6, max_size=6).map(
        lambda v: pa.array(v, pa.list_(pa.string()))
    ),
    st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=6, max_size=6).map(
        lambda v: pa.array(v, pa.int64()).view(pa.timestamp("us"))
    ),
)
ITEMS = st.dictionaries(st.sampled_from(["title", "description", "brand", "price", "text", "id"]), VALUES, max_size=4)
LOG = st.dictionaries(
    st.sampled_from(["user_id", "item_id", "timestamp", "weight", "position", "event"]), VALUES, max_size=3
)


def test_any_small_table(tmp_path_factory, rounds, measured):
    """Any small table goes through reading, checking, factors and counting, or is refused with a remedy."""
    examples = rounds(25, 2_000)
    outcomes = []

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(ITEMS, LOG)
    def any_table(items, log):
        folder = tmp_path_factory.mktemp("any") / "shop"
        write_items(folder, 6, **items)
        plain = {"user_id": list("aaabbb"), "item_id": ["i0", "i1", "i2", "i3", "i0", "i1"], "timestamp": range(6)}
        columns = {**plain, **log}
        pq.write_table(
            pa.table({name: pa.array(values) for name, values in columns.items()}), folder / "interactions.parquet"
        )
        outcomes.append(list(Way(folder).all())[-1])

    any_table()
    assert outcomes.count("instant") > examples / 10
    measured(f"{len(outcomes):,} tables, {outcomes.count('instant'):,} of them to the end")
