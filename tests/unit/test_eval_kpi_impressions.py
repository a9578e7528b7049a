"""Reading logs of impressions: what is kept, and what is refused with file, row, column and remedy."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from molar_eval.kpi import impressions as module
from molar_eval.kpi.impressions import read_impressions
from molar_eval.kpi.off_policy import evaluate_policy
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap

COLUMNS = {
    "context_id": ["r1", "r2", "r2", "r3"],
    "user_id": ["u1", "u2", "u2", "u1"],
    "item_id": ["007", "b", "007", "c"],
    "propensity": [0.25, 0.5, 1.0, 1e-3],
    "reward": [0.0, 1.0, 12.5, -2.0],
}
MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def _write(folder, form, columns):
    path = folder / f"shown.{form}"
    table = pa.table(columns)
    if form == "parquet":
        pq.write_table(table, path)
    elif form == "csv":
        pa_csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()))
    return path


def _check(log):
    assert len(log) == 4
    for name, map_, codes in (
        ("context_id", log.contexts, log.context),
        ("user_id", log.users, log.user),
        ("item_id", log.items, log.item),
    ):
        assert map_.ids(codes) == COLUMNS[name]
        assert map_.array.to_pylist() == list(dict.fromkeys(COLUMNS[name]))
    assert log.propensity.tolist() == COLUMNS["propensity"]
    assert log.reward.tolist() == COLUMNS["reward"]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_every_format(tmp_path, form):
    log = read_impressions(_write(tmp_path, form, COLUMNS | {"note": ["x"] * 4}))
    _check(log)
    assert log.timestamp is None
    assert log.first.tolist() == [0, 1, 3]
    assert log.users.ids(log.user[log.first]) == ["u1", "u2", "u1"]
    assert log.item_rows(IdMap(["c", "007"])).tolist() == [1, -1, 1, 0]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_times(tmp_path, form):
    log = read_impressions(_write(tmp_path, form, COLUMNS | {"timestamp": [MOMENT] * 4}))
    assert log.timestamp.tolist() == [int(MOMENT.timestamp())] * 4


def test_types_that_tools_write(tmp_path):
    table = {
        "context_id": pa.array([1, 2, 2, 3]),
        "user_id": pa.array(["u1", "u2", "u2", "u1"]).dictionary_encode(),
        "item_id": pa.array([7.0, 8.0, 7.0, 9.0]),
        "propensity": pa.array([0.25, 0.5, 1, 0.125], pa.float32()),
        "reward": pa.array([True, False, True, False]),
    }
    log = read_impressions(_write(tmp_path, "parquet", table))
    assert log.items.ids(log.item) == ["7", "8", "7", "9"]
    assert log.contexts.ids(log.context) == ["1", "2", "2", "3"]
    assert log.propensity.tolist() == [0.25, 0.5, 1, 0.125]
    assert log.reward.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_batches_join(tmp_path, form, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 3)
    _check(read_impressions(_write(tmp_path, form, COLUMNS)))


def test_an_item_in_two_slots_of_one_slate(tmp_path):
    twice = {name: [values[1], values[1]] for name, values in COLUMNS.items()}
    path = _write(tmp_path, "csv", twice | {"position": [1, 2]})
    assert len(read_impressions(path)) == 2
    with pytest.raises(DataError, match=r"row 2: repeats the item 'b' of the context 'r2' from row 1"):
        read_impressions(_write(tmp_path, "csv", twice | {"position": [2, 2]}))


def _with(column, values):
    return COLUMNS | {column: values}


BAD = {
    "zero": (_with("propensity", [0.25, 0.5, 0.0, 1.0]), r"row 3, column 'propensity': 0\.0 is no propensity"),
    "percentage": (_with("propensity", [25.0, 0.5, 1.0, 1.0]), r"row 1, column 'propensity': 25\.0 is no propensity"),
    "negative": (_with("propensity", [0.25, 0.5, 1.0, -0.1]), r"row 4, column 'propensity'"),
    "no propensity": (
        _with("propensity", [0.25, None, 1.0, 0.1]),
        r"row 2, column 'propensity': the number is missing",
    ),
    "nan": (_with("reward", [0.0, 1.0, float("nan"), 1.0]), r"row 3, column 'reward': nan is not finite"),
    "infinite": (_with("reward", [0.0, float("inf"), 0.0, 1.0]), r"row 2, column 'reward': inf is not finite"),
    "no reward": (_with("reward", [0.0, 1.0, 1.0, None]), r"row 4, column 'reward': the number is missing"),
    "word": (_with("reward", ["0", "1", "click", "1"]), r"row 3, column 'reward': 'click' is not a number"),
    "list": (_with("reward", [[0.0]] * 4), r"column 'reward' holds list"),
    "no item": (_with("item_id", ["a", None, "b", "c"]), r"row 2, column 'item_id': the id is missing"),
    "blank": (_with("user_id", ["u1", "u2", "u2", " "]), r"row 4, column 'user_id': the id is missing"),
    "time": (
        _with("timestamp", ["2024-05-06", "2024-05-07", "soon", "2024-05-08"]),
        r"row 3, column 'timestamp': 'soon'",
    ),
    "two users": (_with("user_id", ["u1", "u2", "u3", "u1"]), r"row 3, column 'user_id': the context 'r2' .* in row 2"),
    "repeat": (_with("item_id", ["a", "b", "b", "c"]), r"row 3: repeats the item 'b' of the context 'r2' from row 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(tmp_path, case):
    columns, text = BAD[case]
    with pytest.raises(DataError, match=text) as caught:
        read_impressions(_write(tmp_path, "parquet", columns))
    assert caught.value.message.startswith("shown.parquet")
    assert caught.value.hint


@pytest.mark.parametrize("case", sorted(set(BAD) - {"list", "zero", "percentage"}))
def test_what_is_refused_as_text(tmp_path, case):
    columns, text = BAD[case]
    with pytest.raises(DataError, match=text.replace("nan is", "'nan' is").replace("inf is", "'inf' is")):
        read_impressions(_write(tmp_path, "csv", columns))


def test_rows_are_those_of_the_file_in_later_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 1)
    with pytest.raises(DataError, match="row 4, column 'reward'"):
        read_impressions(_write(tmp_path, "parquet", BAD["no reward"][0]))


def test_missing_columns_are_named_with_the_nearest(tmp_path):
    columns = {"propensities" if name == "propensity" else name: values for name, values in COLUMNS.items()}
    columns["rewrd"] = columns.pop("reward")
    with pytest.raises(DataError, match="no columns 'propensity', 'reward'") as caught:
        read_impressions(_write(tmp_path, "csv", columns))
    assert caught.value.hint == "rename 'propensities' to 'propensity', rename 'rewrd' to 'reward'"


def test_a_file_of_something_else(tmp_path):
    with pytest.raises(DataError, match="no columns") as caught:
        read_impressions(_write(tmp_path, "csv", {"x": [1], "y": [2]}))
    assert caught.value.hint.startswith("it has 'x', 'y'; name the columns context_id, user_id")


def test_a_broken_line_stops_the_reading(tmp_path):
    path = _write(tmp_path, "csv", COLUMNS)
    path.write_text(path.read_text() + "r4,u1,a,0.5\n")
    with pytest.raises(DataError, match="row 5: wrong number of fields"):
        read_impressions(path)


def test_no_rows_and_no_file(tmp_path):
    with pytest.raises(DataError, match="has no rows"):
        read_impressions(_write(tmp_path, "csv", {name: pa.array([], pa.string()) for name in COLUMNS}))
    with pytest.raises(DataError, match="no file"):
        read_impressions(tmp_path / "absent.parquet")
    with pytest.raises(DataError, match="known format") as caught:
        read_impressions(tmp_path / "shown.xlsx")
    assert ".parquet" in caught.value.hint


def test_from_the_file_to_the_estimate(tmp_path):
    n = 2000
    random = np.random.default_rng(0)
    item = random.integers(4, size=n)
    table = {
        "context_id": np.arange(n),
        "user_id": random.integers(300, size=n),
        "item_id": item,
        "propensity": np.full(n, 0.25),
        "reward": (random.random(n) < 0.1 * (item + 1)).astype(float),
    }
    log = read_impressions(_write(tmp_path, "parquet", table))
    found = evaluate_policy(log, (log.item_rows(IdMap(["0", "1", "2", "3"])) == 3).astype(float))
    for name in ("replay", "ips", "snips"):
        value = found.value(name)
        assert value.low <= 0.4 <= value.high
        assert value.high - value.low < 0.13
    assert found.warnings == ()
