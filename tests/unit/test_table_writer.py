import csv
import json
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from molar_indexes.batch import recommend
from molar_retrieval.errors import RequestError
from molar_retrieval.frames import TableWriter, ending_of, unescaped
from molar_retrieval.quality.findings import FindingCollector

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "parts": pa.struct([("a", pa.float64()), ("b", pa.float64())]),
        "others": pa.list_(pa.string()),
        "at": pa.timestamp("us", "UTC"),
    }
)
ROWS = [
    {
        "id": 'one, "quoted"\n',
        "parts": {"a": 0.5, "b": None},
        "others": ["x", "y"],
        "at": datetime(2026, 1, 2, tzinfo=UTC),
    },
    {"id": "zwei", "parts": {"a": 1.0, "b": -2.0}, "others": [], "at": None},
]


def written(path: Path) -> Path:
    with TableWriter(path, SCHEMA, ending_of(path)) as writer:
        for row in ROWS:
            writer.write(pa.Table.from_pylist([row], SCHEMA))
    return path


def test_each_ending_is_what_it_says(tmp_path: Path) -> None:
    assert pq.read_table(written(tmp_path / "out.parquet")).to_pylist() == ROWS
    assert pq.read_table(written(tmp_path / "plain")).to_pylist() == ROWS
    options = pa_csv.ParseOptions(newlines_in_values=True)
    found = pa_csv.read_csv(written(tmp_path / "out.CSV"), parse_options=options)
    assert found.column_names == ["id", "parts.a", "parts.b", "others", "at"]
    assert found["id"].to_pylist() == ['one, "quoted"\n', "zwei"]
    assert found["parts.b"].to_pylist() == [None, -2.0]
    assert found["others"].to_pylist() == ["x|y", ""]
    lines = [json.loads(line) for line in written(tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert lines[0]["at"] == "2026-01-02T00:00:00+00:00"
    assert "at" not in lines[1]
    assert lines[1]["parts"] == {"a": 1.0, "b": -2.0}
    with pytest.raises(RequestError, match="no known ending") as unknown:
        ending_of(tmp_path / "out.xlsx")
    assert unknown.value.hint == "name a file ending in .parquet, .csv, .jsonl"


def test_lists_of_everybody_are_the_same_in_each(trained, tmp_path: Path) -> None:
    for ending in ("parquet", "csv", "jsonl"):
        recommend(trained.workspace, tmp_path / f"lists.{ending}", k=3, users=[trained.user])
    whole = pq.read_table(tmp_path / "lists.parquet").to_pylist()
    flat = pa_csv.read_csv(tmp_path / "lists.csv").to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    for other in (flat, lines):
        assert [(row["user_id"], row["rank"], row["item_id"]) for row in other] == [
            (row["user_id"], row["rank"], row["item_id"]) for row in whole
        ]
    assert flat[0]["parts.popularity"] == pytest.approx(whole[0]["parts"]["popularity"])
    with pytest.raises(RequestError, match="no known ending"):
        recommend(trained.workspace, tmp_path / "lists.xlsx", k=3)


def test_lists_are_written_without_what_takes_longer_to_load_than_they_do(trained, tmp_path: Path) -> None:
    program = f"""
        import sys
        from pathlib import Path
        from molar_indexes.batch import recommend
        target = Path({str(tmp_path / "lists.parquet")!r})
        report = recommend(Path({str(trained.workspace)!r}), target, k=3, users=[{trained.user!r}])
        assert (report.users, report.rows, report.short) == (1, 3, 0), report
        slow = {{"torch", "pandas", "typer"}} & set(sys.modules)
        assert not slow, slow
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


def test_a_fix_list_is_what_its_ending_says(tmp_path: Path) -> None:
    with FindingCollector(tmp_path / "issues.csv") as found:
        found.add("catalogue.unusable", "it cannot be read", others=("a", "b"))
    (row,) = pa_csv.read_csv(tmp_path / "issues.csv").to_pylist()
    assert (row["kind"], row["detail"], row["others"]) == ("catalogue.unusable", "it cannot be read", "a|b")
    with pytest.raises(RequestError, match="ending"):
        FindingCollector(tmp_path / "issues.xls")


def test_no_text_in_csv_is_a_formula_and_numbers_stay_numbers(tmp_path):
    texts = ["=1+1", "+49 30", "-5", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "a=1", "", None, "'a"]
    table = pa.table({"text": texts, "number": [-1.5] * len(texts), "many": [["=1", "b"]] * len(texts)})
    with TableWriter(tmp_path / "x.csv", table.schema, ".csv") as writer:
        writer.write(table)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    cells = [row[0] for row in rows]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n")]
    assert [unescaped(cell) for cell in cells] == [text or "" for text in texts]
    assert {(row[1], row[2]) for row in rows} == {("-1.5", "'=1|b")}
