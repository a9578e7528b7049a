"""From a folder to the interactions artefact."""

import json
import os
import time
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Holdout, Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import is_current, prepare_interactions, write_log
from molar_retrieval.errors import DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.ids import IdMap
from molar_retrieval.models.als import held_out, open_log
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import SplitSettings


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "shop"
    path.mkdir()
    _items(path, list("abcde"))
    return path


@pytest.fixture
def workspace(tmp_path, folder):
    workspace = Workspace.for_catalogue(tmp_path / "work", folder)
    prepare_catalogue(folder, workspace)
    return workspace


def _items(folder, ids):
    pq.write_table(pa.table({"item_id": ids, "title": [f"thing {i}" for i in ids]}), folder / "items.parquet")


def _write(folder, rows, name="interactions.parquet", columns=("user_id", "item_id", "timestamp")):
    values = list(zip(*rows, strict=True)) if rows else [[] for _ in columns]
    pq.write_table(pa.table(dict(zip(columns, values, strict=True))), folder / name)


def _open(workspace):
    ids = Catalogue.open(workspace["catalogue"].require()[0]).ids
    return Interactions.open(workspace["interactions"].require()[0], ids)


def _histories(workspace):
    log = _open(workspace)
    return {log.users.id(u): "".join(log.items.ids(log.history(u))) for u in range(log.n_users)}


def _rejects(workspace):
    table = pq.read_table(workspace["interactions"].require()[0] / "rejects.parquet")
    return [(r["file"], r["row"], r["item_id"], r["reason"]) for r in table.to_pylist()]


def test_order_by_user_time_and_file(folder, workspace):
    _write(folder, [("v", "a", 5), ("u", "b", 9), ("v", "c", 1), ("u", "a", 9), ("u", "d", 3), ("v", "b", 5)])
    manifest = prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"v": "cab", "u": "dba"}
    log = _open(workspace)
    assert log.timestamp.tolist() == [1, 5, 5, 3, 9, 9]
    assert log.item.dtype == np.int32
    assert log.weight is None
    assert (manifest.facts["interactions"], manifest.facts["users"], manifest.facts["items"]) == (6, 2, 4)
    assert manifest.settings["times"] == "s"


def test_position_orders_what_has_one_time(folder, workspace):
    rows = [("u", "a", 1, 3), ("u", "b", 1, None), ("u", "c", 1, 1), ("u", "d", 0, 9), ("u", "e", 1, 3)]
    _write(folder, rows, columns=("user_id", "item_id", "timestamp", "position"))
    prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "dcaeb"}


def test_position_alone_orders_a_log_without_times(folder, workspace):
    _write(folder, [("u", "a", 2), ("u", "b", 1), ("u", "b", 3)], columns=("user_id", "item_id", "position"))
    manifest = prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "bab"}
    assert _open(workspace).timestamp.tolist() == [0, 0, 0]
    assert manifest.facts["duplicates"] == 0


def test_a_log_without_times_keeps_the_order_and_repetitions_of_the_file(folder, workspace):
    (folder / "interactions.csv").write_text("user_id,item_id\nu,b\nu,a\nv,c\nu,b\nu,b\n")
    prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "babb", "v": "c"}


def test_sub_seconds_order_although_seconds_are_stored(folder, workspace):
    _write(folder, [("u", "a", 1_500_000_000_900), ("u", "b", 1_500_000_000_100)])
    prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "ba"}
    assert _open(workspace).timestamp.tolist() == [1_500_000_000] * 2


def test_exact_duplicates_are_dropped_and_counted(folder, workspace):
    rows = [("u", "a", 1), ("u", "b", 1), ("u", "a", 1), ("v", "a", 1), ("u", "a", 2), ("u", "a", 1)]
    _write(folder, rows)
    manifest = prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "aba", "v": "a"}
    assert manifest.facts["duplicates"] == 2
    assert manifest.facts["rejects"] == 0


def test_two_kinds_of_event_at_one_time_are_no_duplicates(folder, workspace):
    rows = [("u", "a", 1, "view"), ("u", "a", 1, "buy"), ("u", "a", 1, "view"), ("u", "a", 1, None)]
    _write(folder, rows, columns=("user_id", "item_id", "timestamp", "event"))
    manifest = prepare_interactions(folder, workspace)
    assert manifest.facts["duplicates"] == 1
    assert _histories(workspace) == {"u": "aaa"}


def test_bad_rows_are_listed_and_shift_nothing(folder, workspace):
    nan = float("nan")
    rows = [
        ("u", "a", "1", 1.0, 1.0),
        (None, "a", "2", 1.0, 1.0),
        ("u", None, "3", 1.0, 1.0),
        ("u", "zz", "4", 1.0, 1.0),
        ("u", "b", "when?", 1.0, 1.0),
        ("u", "b", None, 1.0, 1.0),
        ("u", "b", "nan", 1.0, 1.0),
        ("u", "b", "8", nan, 1.0),
        ("u", "b", "9", -1.0, 1.0),
        ("u", "b", "10", float("inf"), 1.0),
        ("u", "b", "11", 1.0, nan),
        ("only-bad", "zz", "12", 1.0, 1.0),
        (" ", "a", "13", 1.0, 1.0),
        ("u", "b", "14", None, None),
        ("v", "c", "15", 2.5, 1.0),
    ]
    columns = ("user_id", "item_id", "timestamp", "weight", "position")
    _write(folder, rows, columns=columns)
    manifest = prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "ab", "v": "c"}
    assert _open(workspace).weight.tolist() == [1.0, 1.0, 2.5]
    file = "interactions.parquet"
    assert _rejects(workspace) == [
        (file, 2, "a", "missing user id"),
        (file, 3, None, "missing item id"),
        (file, 4, "zz", "unknown item: 'zz'"),
        (file, 5, "b", "unparsable time: 'when?'"),
        (file, 6, "b", "missing time"),
        (file, 7, "b", "unparsable time: 'nan'"),
        (file, 8, "b", "weight is not a positive number: nan"),
        (file, 9, "b", "weight is not a positive number: -1.0"),
        (file, 10, "b", "weight is not a positive number: inf"),
        (file, 11, "b", "position is not a number: nan"),
        (file, 12, "zz", "unknown item: 'zz'"),
        (file, 13, "a", "missing user id"),
    ]
    assert manifest.facts["rows"] == 15
    assert manifest.facts["rejects_by_kind"]["unknown item"] == 2


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_batches_leave_no_trace(folder, workspace, monkeypatch, batch):
    monkeypatch.setattr("molar_retrieval.data.interaction_reader.BATCH", batch)
    rows = [(f"u{i % 3}", "abcdez"[i % 6], i // 4) for i in range(30)]
    _write(folder, rows)
    prepare_interactions(folder, workspace)
    expected = {f"u{u}": "" for u in range(3)}
    for user, item, _ in rows:
        expected[user] += item.replace("z", "")
    assert _histories(workspace) == expected
    assert [row for _, row, _, _ in _rejects(workspace)] == [6, 12, 18, 24, 30]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_text_formats(folder, workspace, suffix):
    if suffix == "csv":
        header = "user_id,item_id,timestamp,weight,position"
        rows = ["007,a,2020-01-02,1.5,", "7,b,2020-01-01,,2", "007,c,2020-01-01,2,x", "7,a"]
        (folder / "interactions.csv").write_text("\n".join([header, *rows]))
    else:
        rows = [
            {"user_id": "007", "item_id": "a", "timestamp": "2020-01-02", "weight": 1.5},
            {"user_id": 7, "item_id": "b", "timestamp": "2020-01-01", "position": 2},
            {"user_id": "007", "item_id": "c", "timestamp": "2020-01-01", "position": "x"},
            [],
        ]
        (folder / "interactions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"007": "a", "7": "b"}
    assert _open(workspace).weight.tolist() == [1.5, 1.0]
    assert sorted((row, reason.split(":")[0]) for _, row, _, reason in _rejects(workspace)) == [
        (3, "position is not a number"),
        (4, "wrong number of fields" if suffix == "csv" else "not a JSON object"),
    ]


def test_columns_can_be_mapped(folder, workspace):
    (folder / "catalog.toml").write_text(
        '[interactions]\nuser_id = "who"\nitem_id = "what"\ntimestamp = "day"\ntime_format = "%d.%m.%Y"\nweight = "n"'
    )
    _write(folder, [("u", "a", "02.01.2020", 3), ("u", "b", "01.01.2020", 1)], columns=("who", "what", "day", "n"))
    manifest = prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "ba"}
    assert _open(workspace).weight.tolist() == [1.0, 3.0]
    assert manifest.settings["times"] == "%d.%m.%Y"


def test_the_log_may_call_items_as_the_items_file_does(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    pq.write_table(pa.table({"artikel": ["a"], "title": ["T"]}), folder / "items.parquet")
    (folder / "catalog.toml").write_text('[items]\nitem_id = "artikel"')
    workspace = Workspace.for_catalogue(tmp_path / "work", folder)
    prepare_catalogue(folder, workspace)
    _write(folder, [("u", "a", 1)], columns=("user_id", "artikel", "timestamp"))
    prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "a"}


def test_integer_ids_are_their_digits(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    _items(folder, [10, 9])
    workspace = Workspace.for_catalogue(tmp_path / "work", folder)
    prepare_catalogue(folder, workspace)
    _write(folder, [(1.0, 9, 1), (1.0, 10, 2)])
    prepare_interactions(folder, workspace)
    log = _open(workspace)
    assert log.users.id(0) == "1"
    assert log.items.ids(log.history(0)) == ["9", "10"]


def test_users_file_is_not_stored(folder, workspace):
    _write(folder, [("u", "a", 1), ("v", "b", 2)])
    _write(folder, [("u", 30), ("w", 40)], "users.parquet", ("user_id", "age"))
    prepare_interactions(folder, workspace)
    stored = pq.read_table(workspace["interactions"].require()[0] / "users.parquet")
    assert stored.to_pydict() == {"user_id": ["u", "v"]}


def test_user_ids_may_be_above_two_gigabytes_and_were_not_once(folder, workspace):
    _write(folder, [("u", "a", 1), ("v", "b", 2)])
    prepare_interactions(folder, workspace)
    log, path = _open(workspace), workspace["interactions"].require()[0] / "users.parquet"
    assert pq.read_schema(path).field("user_id").type == pa.large_string()
    pq.write_table(pa.table({"user_id": pa.array(["u", "v"], pa.string())}), path)  # as earlier versions wrote it
    assert _open(workspace).users == log.users
    assert prepare_interactions(folder, workspace).facts["people"] == log.users.digest


def test_user_ids_pass_through_one_place(folder, workspace, monkeypatch):
    monkeypatch.setattr(
        "molar_retrieval.data.prepare_interactions.user_keys", lambda ids: pa.array([f"#{i}" for i in range(len(ids))])
    )
    _write(folder, [("secret-u", "a", 1), ("secret-v", "b", 2)])
    prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"#0": "a", "#1": "b"}
    stored = b"".join(p.read_bytes() for p in workspace["interactions"].root.rglob("*") if p.is_file())
    assert b"secret" not in stored


def test_nothing_happens_where_nothing_changed(folder, workspace, monkeypatch):
    _write(folder, [("u", "a", 1)])
    assert not is_current(folder, workspace)
    first = prepare_interactions(folder, workspace)
    assert is_current(folder, workspace)
    monkeypatch.setattr("molar_retrieval.data.prepare_interactions.find_table", None)
    assert prepare_interactions(folder, workspace) == first


def test_the_fingerprint_follows_the_content(folder, workspace):
    _write(folder, [("u", "a", 1), ("v", "b", 2)])
    first = prepare_interactions(folder, workspace)
    os.utime(folder / "interactions.parquet")
    assert not is_current(folder, workspace)
    assert prepare_interactions(folder, workspace).fingerprint == first.fingerprint
    _write(folder, [("u", "a", 1), ("v", "b", 2), ("v", "zz", 3)])
    second = prepare_interactions(folder, workspace)
    assert second.fingerprint == first.fingerprint
    assert len(_rejects(workspace)) == second.facts["rejects"] == 1
    prints = {first.fingerprint}
    for rows in ([("u", "a", 1), ("v", "b", 3)], [("u", "a", 1), ("u", "b", 2)], [("u", "b", 1), ("v", "a", 2)]):
        _write(folder, rows)
        prints.add(prepare_interactions(folder, workspace).fingerprint)
    assert len(prints) == 4
    assert len(workspace["interactions"].versions()) == 1


def test_other_names_of_people_take_the_place_of_theirs_in_the_same_version(folder, workspace):
    _write(folder, [("u", "a", 1), ("v", "b", 2)])
    first = prepare_interactions(folder, workspace)
    _write(folder, [("u", "a", 1), ("w", "b", 2)])
    second = prepare_interactions(folder, workspace)
    assert (second.fingerprint, second.number) == (first.fingerprint, first.number)
    assert second.facts["people"] != first.facts["people"]
    assert open_log(workspace).users.array.to_pylist() == ["u", "w"]


def test_a_change_of_the_catalogue_counts_as_far_as_ids_are_concerned(folder, workspace):
    _write(folder, [("u", "a", 1), ("u", "x", 2)])
    first = prepare_interactions(folder, workspace)
    (folder / "catalog.toml").write_text('[text]\ntemplate = "{title}!"')
    catalogue = prepare_catalogue(folder, workspace)
    second = prepare_interactions(folder, workspace)
    assert second.fingerprint == first.fingerprint
    assert second.inputs == {"catalogue": catalogue.fingerprint} != first.inputs
    assert workspace["interactions"].require()[1].inputs == second.inputs
    _items(folder, list("xabcde"))
    prepare_catalogue(folder, workspace)
    assert not is_current(folder, workspace)
    third = prepare_interactions(folder, workspace)
    assert third.fingerprint != first.fingerprint
    assert _histories(workspace) == {"u": "ax"}


def test_a_title_that_changes_leaves_the_log_as_it_is(folder, workspace, monkeypatch):
    _write(folder, [("u", "a", 1)])
    first = prepare_interactions(folder, workspace)
    pq.write_table(pa.table({"item_id": list("abcde"), "title": ["new"] * 5}), folder / "items.parquet")
    catalogue = prepare_catalogue(folder, workspace)
    monkeypatch.setattr("molar_retrieval.data.prepare_interactions.find_table", None)
    second = prepare_interactions(folder, workspace)
    assert second.fingerprint == first.fingerprint
    assert workspace["interactions"].require()[1].inputs == {"catalogue": catalogue.fingerprint}


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([], ("user_id", "item_id"), "has no rows"),
        ([("u", "x"), ("v", "y")], ("user_id", "item_id"), "none of its 2 rows is usable; 2 × unknown item"),
        ([("u", "a")], ("someone", "item_id"), "no user_id column; its columns are someone, item_id"),
        ([("u", "a")], ("user_id", "thing"), "no item_id column"),
        ([("u", "a", True)], ("user_id", "item_id", "timestamp"), "the timestamp column 'timestamp' holds bool"),
    ],
)
def test_a_log_unusable_as_a_whole_is_refused(folder, workspace, rows, columns, message):
    _write(folder, rows, columns=columns)
    with pytest.raises(DataError, match=message) as caught:
        prepare_interactions(folder, workspace)
    assert caught.value.hint
    assert workspace["interactions"].current is None


def test_what_is_missing_is_named(folder, tmp_path, workspace):
    with pytest.raises(DataError, match="no interactions file"):
        prepare_interactions(folder, workspace)
    bare = Workspace.for_catalogue(tmp_path / "bare", folder)
    with pytest.raises(MissingArtefactError, match="no catalogue"):
        prepare_interactions(folder, bare)


def test_a_log_of_another_catalogue_is_refused(folder, workspace):
    _write(folder, [("u", "e", 1)])
    prepare_interactions(folder, workspace)
    with pytest.raises(StaleArtefactError, match="another catalogue"):
        Interactions.open(workspace["interactions"].require()[0], IdMap(["a"]))


def test_write_log_publishes_a_part_of_a_log(folder, workspace):
    _write(folder, [("u", "a", 1), ("u", "b", 2), ("v", "c", 3)])
    whole = prepare_interactions(folder, workspace)
    log = _open(workspace)
    inputs = {"catalogue": workspace["catalogue"].require()[1].fingerprint}
    manifest = write_log(workspace, log.without_last(np.array([0, 1])), inputs)
    assert manifest.fingerprint != whole.fingerprint
    assert manifest.facts["interactions"] == 1
    assert _histories(workspace) == {"u": "a", "v": ""}
    assert write_log(workspace, log, inputs).fingerprint == whole.fingerprint


def test_a_log_that_brings_its_validation_cases_is_validated_on_them(folder, workspace):
    _write(folder, [("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("v", "c", 3)])
    whole = prepare_interactions(folder, workspace)
    log = _open(workspace)
    assert len(held_out(workspace, SplitSettings())) == 1, "by default the last interaction of u"
    users, targets, times = np.array([0, 0], np.int32), np.array([3, 4], np.int32), np.array([70, 71])
    brought = write_log(workspace, Holdout(log, users, targets, times), {})
    assert brought.fingerprint != whole.fingerprint, "other cases are another artefact"
    later = write_log(workspace, Holdout(log, users, targets, times + 1), {})
    assert later.fingerprint != brought.fingerprint, "so are cases asked at another time"
    write_log(workspace, Holdout(log, users, targets, times), {})
    found = held_out(workspace, SplitSettings())
    assert len(found.training) == len(log), "nothing more is held out"
    assert found.users.tolist() == [0, 0]
    assert found.targets.tolist() == [3, 4]
    assert found.times.tolist() == [70, 71]
    assert found.known is None
    known = Interactions(
        users=IdMap.numbered(2),
        items=log.items,
        offsets=np.array([0, 3, 3]),
        item=np.array([0, 1, 2], np.int32),
        timestamp=np.array([5, 6, 7]),
        weight=np.array([0.5, 1, 2], np.float32),
    )
    since = write_log(workspace, Holdout(log, users, targets, times, known), {})
    assert since.fingerprint != brought.fingerprint, "so are cases before which something else came"
    read = held_out(workspace, SplitSettings()).known
    for name in ("offsets", "item", "timestamp", "weight"):
        assert getattr(read, name).tolist() == getattr(known, name).tolist()
        assert getattr(read, name).dtype == getattr(known, name).dtype
    none = np.zeros(0, np.int32)
    write_log(workspace, Holdout(log, none, none, none.astype(np.int64)), {})
    assert len(held_out(workspace, SplitSettings())) == 0, "no cases are no cases, not the default ones"


def test_a_spreadsheet_in_another_countrys_writing(folder, workspace):
    lines = ["user_id;item_id;timestamp", "u;b;03/04/2020", "u;a;01/04/2020 14:05", "u;c;31/12/2020"]
    (folder / "interactions.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    manifest = prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "abc"}
    assert manifest.settings["times"] == "day/month/year"


def test_times_in_the_future_are_set_aside_but_for_a_day_between_clocks(folder, workspace):
    now = int(time.time())
    _write(folder, [("u", "a", now - 60), ("u", "b", now + 80_000), ("u", "c", now + 90_000)])
    prepare_interactions(folder, workspace)
    assert _histories(workspace) == {"u": "ab"}
    late = f"{datetime.fromtimestamp(now + 90_000, UTC):%Y-%m-%d %H:%M:%S}"
    assert _rejects(workspace) == [("interactions.parquet", 3, "c", f"time is in the future: {late}")]


def test_dates_before_1990_are_set_aside_and_counters_are_not(folder, workspace):
    _write(folder, [("u", "a", 1_700_000_000), ("w", "b", 1_700_000), ("v", "c", 1_700_000_005)])
    assert prepare_interactions(folder, workspace).facts["rejects_by_kind"] == {"time is before 1990": 1}
    assert _histories(workspace) == {"u": "a", "v": "c"}
    assert _rejects(workspace) == [("interactions.parquet", 2, "b", "time is before 1990: 1970-01-20 16:13:20")]
    _write(folder, [("u", "a", 2), ("u", "b", 1), ("v", "c", 1_700_000_005)])
    assert prepare_interactions(folder, workspace).facts["rejects"] == 0
    assert _histories(workspace) == {"u": "ba", "v": "c"}


def test_weights_may_have_decimal_commas(folder, workspace):
    lines = ["user_id;item_id;timestamp;weight", "u;a;1;12,50", "u;b;2;1.299,00", "u;c;3;", "u;d;4;viel", "u;e;5;1.250"]
    (folder / "interactions.csv").write_text("\n".join(lines))
    prepare_interactions(folder, workspace)
    assert _open(workspace).weight.tolist() == [12.5, 1299.0, 1.0, 1250.0]
    assert _rejects(workspace) == [("interactions.csv", 4, "d", "weight is not a positive number: 'viel'")]


def test_weights_that_can_be_read_in_two_ways_are_not_guessed(folder, workspace, monkeypatch):
    (folder / "interactions.csv").write_text("user_id;item_id;timestamp;weight\nu;a;1;1,250\nu;b;2;1.5\n")
    prepare_interactions(folder, workspace)
    assert _rejects(workspace) == [("interactions.csv", 1, "a", "weight is not a positive number: '1,250'")]
    monkeypatch.setattr("molar_retrieval.data.readers._BLOCK", 64)
    rows = [f"u;a;{i};1.250" for i in range(20)]
    text = "\n".join(["user_id;item_id;timestamp;weight", *rows, "u;b;99;0,5"])
    (folder / "interactions.csv").write_text(text)
    prepare_interactions(folder, workspace)
    assert set(_open(workspace).weight.tolist()) == {1250.0, 0.5}
