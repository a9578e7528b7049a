"""What `molar check` finds in a log: planted faults, and numbers against slow counts by hand."""

import importlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.schema import read_spec
from molar_retrieval.ids import IdMap
from molar_retrieval.quality.findings import FindingCollector, Severity
from molar_retrieval.quality.interactions import check_log

BENCH = Path(__file__).resolve().parents[2] / "bench"
START = 1_609_459_200
DAY = 86_400


@pytest.fixture(scope="module")
def faults():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        return importlib.import_module("log_faults")


@pytest.fixture(scope="module")
def clean(faults):
    return faults.clean_log(np.random.default_rng(3))


@dataclass
class Checked:
    """What a check of a log found."""

    findings: tuple
    counts: dict
    summary: object


def checked(folder, items, limit=100_000, **more):
    found = FindingCollector(examples=limit, limit=limit)
    summary = check_log(folder, read_spec(folder), IdMap(items), found, now=START + 1000 * DAY, **more)
    return Checked(tuple(f for kind in found.counts for f in found.examples(kind)), dict(found.counts), summary)


def _check(
    folder, rows, items="abcde", name="interactions.parquet", columns=("user_id", "item_id", "timestamp"), **more
):
    pq.write_table(pa.table({"item_id": list(items), "title": list(items)}), folder / "items.parquet")
    values = list(zip(*rows, strict=True))
    table = pa.table(dict(zip(columns, map(list, values), strict=True)))
    pq.write_table(table, folder / "interactions.parquet")
    return checked(folder, list(items), **more)


def _of(report, kind):
    return [finding for finding in report.findings if finding.kind.name == kind]


def _moment(detail):
    written = detail.rpartition(" at ")[2]
    return np.datetime64(written, "s").astype(int) if written[:2] == "20" else None


def test_planted_faults_are_found_where_they_are_and_nowhere_else(faults):
    scores = faults.measure(seeds=1)
    assert {name for name, score in scores.items() if score.recall < 0.98} == set()
    assert {name for name, score in scores.items() if score.precision < 0.98} == set()
    assert len(faults.PLANTERS) >= 18


def test_nothing_is_found_in_a_clean_log(faults, clean):
    assert faults.checked(clean) == ()


def test_numbers_of_the_summary(tmp_path, clean):
    clean.write(tmp_path)
    summary = checked(tmp_path, clean.items).summary
    lengths = Counter(clean.user.tolist())
    popularity = Counter(clean.item.tolist())
    assert summary.rows == summary.interactions == len(clean)
    assert (summary.users, summary.items) == (len(lengths), len(popularity))
    assert summary.median_history == np.median(list(lengths.values()))
    assert summary.users_with_five == sum(n >= 5 for n in lengths.values())
    assert summary.items_with_five == sum(n >= 5 for n in popularity.values())
    assert (summary.first, summary.ties) == ("2021-01-01", 0.0)
    assert summary.resolution == "seconds"


def test_blocks_of_users_change_nothing(tmp_path, clean, monkeypatch):
    planted = replace(clean, time=clean.time // 7200 * 7200)  # with ties
    twice = planted.plus(planted.user[:500], planted.item[:500], planted.time[:500])
    twice.write(tmp_path)
    whole = checked(tmp_path, clean.items)
    monkeypatch.setattr("molar_retrieval.quality.interactions.BLOCK", 1000)
    parts = checked(tmp_path, clean.items)
    assert whole.counts["log.duplicate"] == 500
    assert parts.summary == whole.summary
    assert parts.counts == whole.counts


def test_examples_are_bounded_and_counts_are_exact(tmp_path):
    rows = [("u", "a", START + second) for second in range(50)] + [("u", f"x{i}", START) for i in range(50)] * 2
    report = _check(tmp_path, rows, limit=10)
    assert len(_of(report, "log.unknown_item")) == 10
    assert report.counts["log.unknown_item"] == 50


def test_most_frequent_unknown_items_come_first(tmp_path):
    report = _check(tmp_path, [("u", "a", START), *[("u", "y", START + 9)] * 2, *[("u", "x", START + 5)] * 3])
    assert [(f.item_id, f.amount, f.row) for f in _of(report, "log.unknown_item")] == [("x", 3.0, 4), ("y", 2.0, 2)]


def test_ids_that_lost_their_zeros(tmp_path):
    report = _check(tmp_path, [("u", str(i), START + i) for i in range(5)], items=[f"{i:03d}" for i in range(1, 5)])
    (finding,) = _of(report, "log.item_spelling")
    assert finding.kind.severity is Severity.ERROR
    assert "leading zeros" in finding.detail
    assert (finding.item_id, finding.others) == ("001", ("1",))


def test_faults_of_users_moments_and_spellings_name_the_row_where_they_begin(faults, clean, tmp_path):
    """The first row of the file with that user, moment or id, whatever rows before it are left out."""
    kinds = ("user.unknown", "log.stuck_time", "log.item_spelling")
    seen = 0
    for kind in kinds:
        log = faults.PLANTERS[kind](clean, np.random.default_rng(5)).log
        log = replace(log, time=np.where(np.arange(len(log)) == 3, 0, log.time))  # a row that is left out
        (tmp_path / kind).mkdir()
        log.write(tmp_path / kind)
        for finding in _of(checked(tmp_path / kind, log.items), kind):
            wanted = {
                "log.stuck_time": log.time == _moment(finding.detail),
                "log.item_spelling": log.item == next(iter(finding.others), None),
            }.get(kind, log.user == finding.user_id)
            assert finding.where == f"interactions.parquet, row {np.flatnonzero(wanted)[0] + 1}"
            seen += 1
    assert seen > len(kinds)


def test_rows_of_csv_keep_their_numbers(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\na,a\nb,b\n")
    lines = [
        "user_id,item_id,timestamp",
        f"u,a,{START}",
        "broken",
        f",b,{START}",
        f"v,a,{START}",
        "v,b,soon",
        f"v,b,{START}",
    ]
    (tmp_path / "interactions.csv").write_text("\n".join([*lines, f"v,b,{START}"]) + "\n")
    report = checked(tmp_path, ["a", "b"])
    where = {finding.kind.name: finding.row for finding in report.findings if finding.row}
    assert where == {"log.broken_row": 2, "log.missing_user": 3, "log.bad_time": 5, "log.duplicate": 7}
    assert {f.where for f in report.findings if f.row} == {f"interactions.csv, row {row}" for row in where.values()}
    assert report.summary.rows == 7
    assert report.summary.interactions == 3


def test_events_of_two_kinds_at_one_time_are_no_duplicates(tmp_path):
    columns = ("user_id", "item_id", "timestamp", "event")
    rows = [("u", "a", START, "view"), ("u", "a", START, "buy"), ("u", "a", START, "view")]
    report = _check(tmp_path, rows, columns=columns)
    assert [finding.row for finding in _of(report, "log.duplicate")] == [3]


def test_a_position_orders_ties(tmp_path):
    columns = ("user_id", "item_id", "timestamp", "position")
    rows = [("u", item, START, place) for item, place in zip("abcd", (4, 3, 2, 1), strict=True)]
    report = _check(tmp_path, rows, columns=columns)
    assert (report.summary.ties, report.summary.ties_placed) == (1.0, 1.0)
    assert "a position orders 100%" in _of(report, "log.ties")[0].detail


def test_bad_weights(tmp_path):
    columns = ("user_id", "item_id", "timestamp", "weight")
    rows = [("u", "a", START, 1.0), ("u", "b", START + 1, 0.0), ("u", "c", START + 2, float("inf"))]
    assert [f.row for f in _of(_check(tmp_path, rows, columns=columns), "log.bad_weight")] == [2, 3]


def test_a_shop_closed_on_mondays_has_no_gaps(faults, clean):
    weekday = (clean.time // DAY + 3) % 7  # Monday is 0
    assert faults.checked(clean.rows(weekday != 0)) == ()


def test_a_log_without_times(tmp_path):
    report = _check(tmp_path, [("u", "a"), ("u", "b"), ("v", "a")], columns=("user_id", "item_id"))
    assert report.findings[0].kind.name == "log.no_times"
    assert report.summary.days == 0


def test_no_log(tmp_path):
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "items.parquet")
    report = checked(tmp_path, ["a"])
    assert (report.findings, report.summary) == ((), None)


@pytest.mark.parametrize("text", ["nothing,of,use\n1,2,3\n", "", "user_id,item_id\n"])
def test_an_unusable_log_is_a_finding(tmp_path, text):
    (tmp_path / "items.csv").write_text("item_id,title\na,a\n")
    (tmp_path / "interactions.csv").write_text(text)
    report = checked(tmp_path, ["a"])
    assert [finding.kind.severity for finding in report.findings] == [Severity.ERROR]
    assert report.summary is None


def test_a_damaged_parquet_file_is_a_finding(tmp_path):
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "items.parquet")
    (tmp_path / "interactions.parquet").write_bytes(b"PAR1 and no more")
    report = checked(tmp_path, ["a"])
    assert [finding.kind.name for finding in report.findings] == ["log.unreadable"]


@pytest.mark.realdata
@pytest.mark.slow
def test_real_logs_are_without_errors(real_data):
    for name in ("hm", "ml-1m"):
        folder = real_data(name)
        report = checked(folder, pq.read_table(folder / "items.parquet", columns=["item_id"])["item_id"])
        assert {f.kind.name for f in report.findings if f.kind.severity is Severity.ERROR} == set()
        assert not set(report.counts) & {"log.gap", "log.stuck_time"}
