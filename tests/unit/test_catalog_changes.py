"""Events that change items, over items files of every format."""

import json
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.prepare import is_current, prepare_catalogue
from molar_retrieval.workspace.artefacts import Workspace

ROWS = [
    {"item_id": "1", "name": "Chair", "price": 20, "colours": "red|blue"},
    {"item_id": "2", "name": "Table", "price": 90, "colours": "black"},
    {"item_id": "3", "name": "Lamp", "price": 15, "colours": None},
]


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def folder(request, tmp_path):
    path = tmp_path / "shop"
    path.mkdir()
    (path / "catalog.toml").write_text('[items]\nlists = ["colours"]\n', "utf-8")
    write(path, ROWS, request.param)
    return path


def write(folder, rows, form, *, age=3600):
    file = folder / f"items.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif form == "csv":
        lines = [",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
        file.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        file.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    os.utime(file, (time.time() - age,) * 2)


@pytest.fixture
def workspace(tmp_path, folder):
    return Workspace.for_catalogue(tmp_path / "work", folder)


@pytest.fixture
def log(workspace):
    log = EventLog(workspace)
    yield log
    log.close()


def change(log, number, item, kind="item_upsert", **data):
    row = {"event_id": f"c{number}", "event": kind, "item_id": item, "timestamp": "2026-01-01"}
    report = log.append([(1, row | ({"data": data} if data else {}))])
    assert not report.refusals


def items(folder, workspace):
    prepare_catalogue(folder, workspace)
    version = workspace["catalogue"].require()[0]
    return pq.read_table(version / "items.parquet").to_pylist()


def rejects(workspace):
    table = pq.read_table(workspace["catalogue"].require()[0] / "rejects.parquet")
    return [(row["file"], row["item_id"], row["reason"]) for row in table.to_pylist()]


def test_values_change_in_place(folder, workspace, log):
    before = items(folder, workspace)
    change(log, 1, "2", price=79.5, title="Oak table", colours=["brown", "grey"])
    change(log, 2, "1", colours="green|white", price=None)
    after = items(folder, workspace)
    assert [row["item_id"] for row in after] == ["1", "2", "3"]
    assert [row["price"] for row in after] == [None, 79.5, 15]
    assert [row["title"] for row in after] == ["Chair", "Oak table", "Lamp"]
    assert [row["colours"] for row in after] == [["green", "white"], ["brown", "grey"], None]
    assert "Oak table" in after[1]["text"]
    assert after[2] == before[2]
    facts = workspace["catalogue"].manifest.facts
    assert (facts["events"], facts["rejects"]) == (2, 0)


def test_texts_are_of_changed_columns_that_are_not_kept_for_display(folder, workspace, log):
    columns = '[items]\nlists = ["colours"]\nexclude = ["price", "colours"]\n'
    (folder / "catalog.toml").write_text(columns + '[text]\ntemplate = "{title}: {colours}, {price}"\n', "utf-8")
    before = [row["text"] for row in items(folder, workspace)]
    assert before == ["Chair: red, blue, 20", "Table: black, 90", "Lamp: , 15"]
    change(log, 1, "2", colours=["brown", "grey"])
    change(log, 2, "1", price=2.5)
    change(log, 3, "9", title="Bench", price=40)
    after = items(folder, workspace)
    assert [row["text"] for row in after] == [
        "Chair: red, blue, 2.5",
        "Table: brown, grey, 90",
        "Lamp: , 15",
        "Bench: , 40",
    ]
    assert not {"price", "colours"} & set(after[0])


def test_a_number_that_no_column_can_hold_is_left_out(folder, workspace, log):
    change(log, 1, "1", price=2**70)
    assert [row["price"] for row in items(folder, workspace)][1:] == [90, 15]
    (reject,) = rejects(workspace)
    assert reject[:2] == ("event c1", "1")
    assert "value not usable" in reject[2]


def test_new_items_follow_and_withdrawn_ones_stay(folder, workspace, log):
    change(log, 1, "9", name="Bench", price=40, stock=3)
    change(log, 2, "8", name="Stool")
    change(log, 3, "2", "item_withdraw")
    change(log, 4, "9", price=35)
    found = items(folder, workspace)
    assert [row["item_id"] for row in found] == ["1", "2", "3", "9", "8"]
    assert [row["active"] for row in found] == [None, False, None, None, None]
    assert [row["stock"] for row in found] == [None, None, None, 3, None]
    assert (found[3]["title"], found[3]["price"]) == ("Bench", 35)
    manifest = workspace["catalogue"].manifest
    assert manifest.facts["availability"] == {"active": "active", "stock": "stock"}
    assert not {"active", "stock"} & set(manifest.facts["attributes"])
    change(log, 5, "2", active=True)
    assert items(folder, workspace)[1]["active"] is True


def test_what_comes_last_counts(folder, workspace, log):
    change(log, 1, "1", price=1)
    change(log, 2, "9", name="Bench")
    (file,) = (path for path in folder.iterdir() if path.name.startswith("items."))
    write(folder, ROWS, file.suffix[1:], age=-1)  # later than the events
    found = items(folder, workspace)
    assert [row["price"] for row in found] == [20, 90, 15, None]
    assert found[3]["title"] == "Bench"  # the file knows nothing of it
    write(folder, [*ROWS, {"item_id": "9", "name": "Settle", "price": 7, "colours": None}], file.suffix[1:], age=-1)
    assert [row["title"] for row in items(folder, workspace)] == ["Chair", "Table", "Lamp", "Settle"]


def test_what_cannot_be_used_names_its_event(folder, workspace, log):
    change(log, 1, "1", price="cheap", colour="red", name="Armchair")
    change(log, 2, "7", "item_withdraw")
    change(log, 3, "2")
    change(log, 4, "3", stock="many", price={"eur": 3})
    found = items(folder, workspace)
    assert [row["title"] for row in found] == ["Armchair", "Table", "Lamp"]
    assert [row["price"] for row in found] == [20, 90, 15]
    assert sorted(rejects(workspace)) == [
        ("event c1", "1", "unknown column, left out: 'colour', did you mean 'colours'?"),
        ("event c1", "1", "value not usable, left as it was: price is 'cheap'"),
        ("event c2", "7", "unknown item"),
        ("event c3", "2", "nothing in data"),
        ("event c4", "3", "value not usable, left as it was: price is a value of type dict"),
        ("event c4", "3", "value not usable, left as it was: stock is 'many'"),
    ]


def test_a_photo_of_an_event_that_is_missing_names_it(folder, workspace, log):
    (file,) = (path for path in folder.iterdir() if path.name.startswith("items."))
    write(folder, [row | {"image": "1.jpg"} for row in ROWS], file.suffix[1:])
    change(log, 1, "9", name="Bench", image="none.jpg")
    items(folder, workspace)
    assert [one[:2] for one in rejects(workspace)][-1] == ("event c1", "9")
    assert rejects(workspace)[-1][2].startswith("photo not usable: 'none.jpg'")


def test_nothing_is_done_where_no_item_changed(folder, workspace, log):
    first = prepare_catalogue(folder, workspace)
    log.append([(1, {"event_id": "v", "event": "view", "user_id": "u", "item_id": "1", "timestamp": "2026-01-01"})])
    assert is_current(folder, workspace)
    second = prepare_catalogue(folder, workspace)
    assert (second.fingerprint, second.number, second.facts["events"]) == (first.fingerprint, first.number, 1)
    change(log, 1, "1", price=20)
    assert not is_current(folder, workspace)
    assert is_current(folder, workspace, events=False)
    third = prepare_catalogue(folder, workspace)
    assert third.fingerprint == first.fingerprint  # the price is what it was
    assert is_current(folder, workspace)
