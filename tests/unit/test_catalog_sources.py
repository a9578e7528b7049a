"""Reading Parquet, CSV and JSON lines: types, row numbers, damage."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.rows import SCHEMA, Rejects
from molar_retrieval.data.schema import find_file, open_source
from molar_retrieval.errors import DataError


def _read(path, columns=None, as_strings=(), size=1000):
    """(row number, values) of all rows, and the rejects."""
    source = open_source(path)
    rejects_file = path.with_name("rejects.parquet")
    rows = []
    with Rejects(rejects_file) as rejects:
        for part in source.batches(columns or source.names, size, rejects, as_strings):
            rows += zip(part.numbers.tolist(), part.batch.to_pylist(), strict=True)
    return rows, pq.read_table(rejects_file).to_pylist()


def _csv(tmp_path, text, name="items.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _jsonl(tmp_path, rows):
    path = tmp_path / "items.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines))
    return path


def test_csv_types_are_inferred_from_all_values(tmp_path):
    path = _csv(
        tmp_path,
        "i,f,b,code,s,e,big\n1,1,true,007,x,,12345678901234567890\n-2,2.5,False,1,1,,1\n,nan,,,,,\n",
    )
    types = {field.name: field.type for field in open_source(path).schema}
    assert types == {
        "i": pa.int64(),
        "f": pa.float64(),
        "b": pa.bool_(),
        "code": pa.string(),
        "s": pa.string(),
        "e": pa.string(),
        "big": pa.string(),
    }
    rows, rejects = _read(path, ["i", "f", "b", "code"])
    assert rows[0][1] == {"i": 1, "f": 1.0, "b": True, "code": "007"}
    assert rows[1][1] == {"i": -2, "f": 2.5, "b": False, "code": "1"}
    assert rows[2][1]["i"] is None
    assert rejects == []


def test_csv_as_written(tmp_path):
    rows, _ = _read(_csv(tmp_path, 'id,n\n007,1.50\n"a,b",NA\n" x ",null\n'), as_strings=("id", "n"))
    assert [row for _, row in rows] == [
        {"id": "007", "n": "1.50"},
        {"id": "a,b", "n": "NA"},
        {"id": " x ", "n": "null"},
    ]


def test_csv_bad_rows_keep_the_numbers_of_the_others(tmp_path):
    text = b"id,t\n1,a\n2,b,c\n3\n4,\xff\n5,e\n\n6,f,\n7,g\n"
    rows, rejects = _read(_csv(tmp_path, text))
    assert [(number, row["id"]) for number, row in rows] == [(1, 1), (5, 5), (7, 7)]
    assert sorted((r["row"], r["reason"].split(":")[0]) for r in rejects) == [
        (2, "wrong number of fields"),
        (3, "wrong number of fields"),
        (4, "not UTF-8"),
        (6, "wrong number of fields"),
    ]


def test_csv_row_numbers_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("molar_retrieval.data.readers._BLOCK", 4096)
    lines = [f"{i},x" if i % 7 else f"{i},x,y" for i in range(1, 5001)]
    rows, rejects = _read(_csv(tmp_path, "id,t\n" + "\n".join(lines)))
    assert len(rows) + len(rejects) == 5000
    assert all(number == row["id"] for number, row in rows)
    assert [r["row"] for r in rejects] == list(range(7, 5001, 7))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiters(tmp_path, delimiter):
    path = _csv(tmp_path, f"id{delimiter}title\r\n1{delimiter}a\r\n")
    assert open_source(path).names == ["id", "title"]
    assert _read(path)[0] == [(1, {"id": 1, "title": "a"})]


def test_csv_with_byte_order_mark_and_line_breaks_in_values(tmp_path):
    rows, _ = _read(_csv(tmp_path, '\ufeffid,t\n1,"a\nb"\n2,"c ""d"""\n'))
    assert [row["t"] for _, row in rows] == ["a\nb", 'c "d"']


def test_jsonl_types_and_missing_keys(tmp_path):
    rows = [
        {"id": "1", "n": 1, "f": 1, "mixed": 1, "l": ["a", 1], "o": {"x": 1}, "z": None},
        {"id": "2", "n": None, "f": 2.5, "mixed": "x", "l": "b", "late": True},
    ]
    path = _jsonl(tmp_path, rows)
    types = {field.name: str(field.type) for field in open_source(path).schema}
    assert types == {
        "id": "string",
        "n": "int64",
        "f": "double",
        "mixed": "string",
        "l": "list<item: string>",
        "o": "struct<>",
        "z": "null",
        "late": "bool",
    }
    read = [row for _, row in _read(path, ["mixed", "l", "late", "o"])[0]]
    assert read == [
        {"mixed": "1", "l": ["a", "1"], "late": None, "o": None},
        {"mixed": "x", "l": ["b"], "late": True, "o": None},
    ]


def test_jsonl_numbers_as_written(tmp_path):
    path = _jsonl(tmp_path, [{"id": 7}, {"id": 7.0}, {"id": 2**70}, {"id": True}, {"id": [1]}, {"id": None}, {}])
    assert [row["id"] for _, row in _read(path, ["id"], ["id"])[0]] == ["7", "7", str(2**70), "true", None, None, None]


def test_jsonl_bad_lines_keep_the_numbers_of_the_others(tmp_path):
    bad = [b'{"id": 1}', b"", b"{", b"[1]", b'{"id": "\xff"}', b'{"id": "\\ud800"}', b'{"id": 7}', b"[" * 100_000]
    rows, rejects = _read(_jsonl(tmp_path, bad))
    assert rows == [(1, {"id": 1}), (7, {"id": 7})]
    assert [(r["row"], r["reason"]) for r in rejects] == [
        (3, "not a JSON object"),
        (4, "not a JSON object"),
        (5, "not UTF-8"),
        (6, "half of a surrogate pair"),
        (8, "not a JSON object"),
    ]


@pytest.mark.parametrize("pair", [b'{"id": 1},{"id": 2}', b'{"id": "\xed\xa0\x80"}'])
def test_a_bad_line_is_not_saved_by_its_neighbours(tmp_path, pair):
    rows, rejects = _read(_jsonl(tmp_path, [pair, {"id": 3}]))
    assert [(number, row["id"]) for number, row in rows] == [(2, 3)]
    assert [r["row"] for r in rejects] == [1]


def test_jsonl_pairs_of_surrogates_are_one_character(tmp_path):
    rows, rejects = _read(_jsonl(tmp_path, [{"id": "👩\u200d🚀"}, {"id": "\\ud800"}]))
    assert [row["id"] for _, row in rows] == ["👩\u200d🚀", "\\ud800"]
    assert rejects == []


def test_parquet_in_small_batches(tmp_path):
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"a.b": [1, 2, 3], "s": pa.array(["x", None, "y"]).dictionary_encode()}), path)
    rows, _ = _read(path, ["s", "a.b"], ["s"], size=2)
    assert rows == [(1, {"s": "x", "a.b": 1}), (2, {"s": None, "a.b": 2}), (3, {"s": "y", "a.b": 3})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.parquet", b"PAR1 nonsense", "not a readable Parquet file"),
        ("items.parquet", b"", "not a readable Parquet file"),
        ("items.csv", b"", "is empty"),
        ("items.csv", b"\xff\xfe,a\n", "not a readable CSV file"),
        ("items.csv", b"a,a\n1,2\n", "two columns called 'a'"),
        ("items.jsonl", b' [{"id": 1}]', "one JSON array"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint


def test_parquet_damaged_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(100_000)]}), path)
    content = bytearray(path.read_bytes())
    content[1000:3000] = b"\0" * 2000
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable Parquet file"):
        _read(path)


def test_find_file(tmp_path):
    assert find_file(tmp_path, "items") is None
    (tmp_path / "items.md").touch()
    assert find_file(tmp_path, "items") is None
    (tmp_path / "items.csv").touch()
    assert find_file(tmp_path, "items") == tmp_path / "items.csv"
    (tmp_path / "items.jsonl").touch()
    with pytest.raises(DataError, match=r"items.csv and items.jsonl"):
        find_file(tmp_path, "items")


def test_find_file_explains_what_it_does_not_read(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        find_file(tmp_path / "none", "items")
    (tmp_path / "items.xlsx").touch()
    with pytest.raises(DataError, match=r"items.xlsx.*not read"):
        find_file(tmp_path, "items")
    (tmp_path / "users.parquet").mkdir()
    with pytest.raises(DataError, match="not a file"):
        find_file(tmp_path, "users")


def test_rejects_are_flushed_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("molar_retrieval.data.rows._FLUSH", 3)
    with Rejects(tmp_path / "r.parquet") as rejects:
        for i in range(1, 8):
            rejects.add("items.csv", i, None if i % 2 else "x", "missing id" if i % 2 else "duplicate id", "d")
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.schema == SCHEMA
    assert table["row"].to_pylist() == list(range(1, 8))
    assert rejects.total == 7
    assert rejects.counts == {"missing id": 4, "duplicate id": 3}
    assert rejects.first["duplicate id"] == "items.csv, row 2: duplicate id: d"


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        (["1.299,00", "12,5", "7"], [1299.0, 12.5, 7.0]),
        (["1,299.00", "12.5", "1,299,000"], [1299.0, 12.5, 1299000.0]),
        (["€ 12,50", "-3,00 EUR", "1.299 Euro"], [12.5, -3.0, 1299.0]),
        (["12.50 EUR", "12 EUR"], [12.5, 12.0]),
        (["$1,299", "$0.99"], [1299.0, 0.99]),
        (["1'299.00 CHF", "CHF 5"], [1299.0, 5.0]),
        (["1\u00a0299,00 €", "5,00 €"], [1299.0, 5.0]),
        (["¥1,299", "980円"], [1299.0, 980.0]),
        (["0,250", "+1,125"], [0.25, 1.125]),
    ],
)
def test_csv_numbers_as_people_write_them(tmp_path, written, numbers):
    path = _csv(tmp_path, "\ufeffid;price\r\n" + "".join(f"a;{value}\r\n" for value in [*written, ""]))
    assert open_source(path).schema.field("price").type == pa.float64()
    assert [row["price"] for _, row in _read(path)[0]] == [*numbers, None]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (["1,299", "2,450"], "point or comma"),
        (["1.299 EUR"], "point or comma"),
        (["12,50 EUR", "12,50 USD"], "several currencies (EUR, USD)"),
        (["0.28", "1.88", "0,5"], "some values have a decimal point, others a decimal comma"),
        (["7", "1.299,00", "1,299.00"], "some values have a decimal point, others a decimal comma"),
    ],
)
def test_csv_numbers_that_mean_two_things_stay_words(tmp_path, written, reason):
    path = _csv(tmp_path, "id;price\n" + "".join(f"a;{value}\n" for value in written))
    source = open_source(path)
    assert source.schema.field("price").type == pa.string()
    assert reason in source.ambiguous_columns["price"]
    assert [row["price"] for _, row in _read(path)[0]] == written


def test_csv_codes_and_words_are_no_numbers(tmp_path):
    path = _csv(tmp_path, "a;b;c;d\n007,5;12,50;1,2,3;EUR\n1,5;soon;1,2;5 XYZ\n")
    source = open_source(path)
    assert [field.type for field in source.schema] == [pa.string()] * 4
    assert source.ambiguous_columns == {}


def test_the_setting_tells_a_decimal_sign(tmp_path):
    path = _csv(tmp_path, "id;price\na;1.299\nb;2\n")
    for decimal, value in ((None, 1.299), (".", 1.299), (",", 1299.0)):
        source = open_source(path)
        source.decimal = decimal
        source.schema  # noqa: B018
        assert next(source.batches(["price"], 10)).batch["price"].to_pylist() == [value, 2.0]


def test_points_beside_decimal_commas_are_not_taken_for_decimals(tmp_path):
    source = open_source(_csv(tmp_path, "price;weight\n1.299;0,5\n2.450;12,5\n"))
    assert source.schema.field("price").type == pa.string()
    assert source.ambiguous_columns == {"price": "other columns have decimal commas"}
