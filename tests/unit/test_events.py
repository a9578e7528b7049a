"""The event log: what is taken, what is refused and why, order, repetitions, compaction, export."""

import json
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import molar
from molar_retrieval import limits
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.event_log_reader import snapshot
from molar_retrieval.data.event_parsing import EVENT_TYPES, FIELDS, FieldError, parse_event
from molar_retrieval.data.event_store import write_lock
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.errors import DataError, MissingArtefactError, RequestError, StaleArtefactError
from molar_retrieval.workspace.artefacts import Workspace

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOW = int(NOON.timestamp() * 1e6)
VIEW = {"event_id": "e1", "event": "view", "user_id": "u", "item_id": "i", "timestamp": NOON.isoformat()}


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text("item_id,title\ni,Chair\n", "utf-8")
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


@pytest.fixture
def log(workspace):
    log = EventLog(workspace)
    yield log
    log.close()


@pytest.fixture
def shop(workspace):
    return molar.Shop(None, workspace.root)


def fields(row):
    names = [name if name == "event_id" else name.removesuffix("_id").removesuffix("stamp") for name in FIELDS]
    return [dict(zip(names, line, strict=True)) for line in parse_event(row, NOW)]


def view(number, *, user="u", at=NOON, **more):
    return {**VIEW, "event_id": f"e{number}", "user_id": user, "timestamp": at, **more}


def ids(table):
    return table["event_id"].to_pylist()


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_kind_is_taken(kind):
    (line,) = fields({**VIEW, "event": kind, "value": 4, "session_id": "s", "data": {"country": "JP"}})
    item = None if kind in ("identify", "user_upsert") else "i"
    assert (line["event"], line["item"], line["time"], line["value"]) == (kind, item, NOW, 4.0)


def test_ga4_names_and_nested_items():
    row = {
        "name": "purchase",
        "user_pseudo_id": 77.0,
        "timestamp_micros": NOW,
        "params": {
            "transaction_id": "T-1",
            "item_list_id": "home",
            "items": [{"item_id": "a", "price": 2.5, "quantity": 2, "index": 3}, {"item_id": 12}],
        },
    }
    first, second = fields(row)
    assert (first["event_id"], first["line"], first["session"]) == ("purchase:T-1", 0, "77")
    assert (first["item"], first["value"], first["quantity"], first["position"]) == ("a", 5.0, 2.0, 3)
    assert (second["line"], second["item"], second["value"], second["list"]) == (1, "12", None, "home")
    for name, kind in {
        "view_item": "view",
        "select_item": "click",
        "view_item_list": "impression",
        "select_promotion": "click",
        "refund": "return",
    }.items():
        assert fields({**VIEW, "event": name})[0]["event"] == kind
    search = fields({"eventId": "s", "event": "view_search_results", "sessionId": "x", "ts": NOON, "search_term": "ü"})
    assert (search[0]["item"], json.loads(search[0]["data"])) == (None, {"search_term": "ü"})


def test_times_in_every_form_are_the_same_moment():
    seconds = NOW // 1_000_000
    forms = [seconds, seconds * 1000, NOW, NOW * 1000, str(seconds), float(seconds), NOON, NOON.replace(tzinfo=None)]
    forms += ["2026-01-02T12:00:00Z", "2026-01-02 12:00:00", "2026-01-02T13:00:00+01:00", pa.scalar(NOON).as_py()]
    assert {fields({**VIEW, "timestamp": form})[0]["time"] for form in forms} == {NOW}
    assert fields({**VIEW, "timestamp": NOON.date()})[0]["time"] == NOW - 43_200_000_000


@pytest.mark.parametrize(
    "form",
    [
        "0001-01-01T00:00:00+14:00",
        "0001-01-01",
        "1989-12-31T23:59:59Z",
        "1970-01-01",
        "9999-12-31T23:59:59-14:00",
        -1,
        0,
        1,
        631_151_999,
        631_151_999_000,
        631_151_999.5,
        "0",
        str(NOW // 1_000_000 + 86_401),
        NOW // 1_000 + 86_401_000,
        NOON + timedelta(days=2),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(1989, 1, 1),
        datetime(1989, 1, 1).date(),
        10**30,
        -(10**30),
        1e300,
    ],
)
def test_a_time_out_of_bounds_is_refused_in_every_form(form):
    with pytest.raises(FieldError) as caught:
        parse_event({**VIEW, "timestamp": form}, NOW)
    assert caught.value.field == "timestamp"


@pytest.mark.parametrize("form", [631_152_000, 631_152_000_000, "1990-01-01", NOON + timedelta(hours=23)])
def test_times_at_the_bounds_are_taken(form):
    assert len(parse_event({**VIEW, "timestamp": form}, NOW)) == 1


def test_a_file_of_events_and_the_library_have_the_same_bounds_of_times(shop, tmp_path):
    rows = [{**VIEW, "event_id": f"b{n}", "timestamp": t} for n, t in enumerate(["0001-01-01T00:00:00+14:00", 0, 5])]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for source in (tmp_path / "odd.jsonl", rows):
        report = shop.events.append(source)
        assert (report.accepted, [one.field for one in report.refusals]) == (0, ["timestamp"] * 3)


@pytest.mark.parametrize(
    ("change", "field", "remedy"),
    [
        ({"event": "purchse"}, "event", "did you mean 'purchase'"),
        ({"event": "begin_checkout"}, "event", "leave such events out"),
        ({"event": None}, "event", "give event as one of"),
        ({"event_id": " "}, "event_id", "letters or digits"),
        ({"event_id": None}, "event_id", "the same whenever the event is sent again"),
        ({"event_id": True}, "event_id", "give a text"),
        ({"user_id": None}, "user_id", "session_id"),
        ({"user_id": "x" * 3000}, "user_id", "at most 2,048 bytes"),
        ({"user_id": "\ud800"}, "user_id", "UTF-8"),
        ({"item_id": None}, "item_id", "items with an item_id each"),
        ({"timestamp": None}, "timestamp", "ISO 8601"),
        ({"timestamp": "yesterday"}, "timestamp", "ISO 8601"),
        ({"timestamp": 20260102}, "timestamp", "ISO 8601"),
        ({"timestamp": 1e300}, "timestamp", "its unit"),
        ({"timestamp": -1e300}, "timestamp", "ISO 8601"),
        ({"user_id": 10**5000}, "user_id", "give a text"),
        ({"timestamp": NOW + 2 * 86_400_000_000}, "timestamp", "its zone"),
        ({"quantity": "2,5"}, "quantity", "decimal point"),
        ({"quantity": -1}, "quantity", "from 0 to"),
        ({"value": float("inf")}, "value", "number"),
        ({"position": 1.5}, "position", "whole number"),
        ({"propensity": 1.01}, "propensity", "from 0 to 1"),
        ({"event": "rating"}, "value", "value or rating"),
        ({"data": "[1]"}, "data", "price"),
        ({"data": {"a": "x" * 70_000}}, "data", "65,536"),
        ({"items": "abc"}, "items", "list of 1 to 200"),
        ({"items": [{"item_id": str(n)} for n in range(201)]}, "items", "list of 1 to 200"),
        ({"items": [{"item_id": "a"}, {"item_id": "b", "quantity": "x"}]}, "items[1].quantity", "decimal point"),
    ],
)
def test_a_wrong_field_is_named_with_its_remedy(change, field, remedy):
    with pytest.raises(FieldError) as caught:
        parse_event({**VIEW, **change}, NOW)
    assert caught.value.field == field
    assert remedy in caught.value.hint


def test_what_is_no_object_is_refused(log):
    assert [one.field for one in log.append(enumerate([1, None, "x"])).refusals] == ["row"] * 3


def test_one_bad_event_rejects_no_other(log):
    report = log.append([(1, view(1)), (2, view(2, event="?")), (3, view(1)), (4, view(4))])
    assert (report.accepted, report.repeated, report.refused) == (2, 1, 1)
    assert (report.refusals[0].row, report.refusals[0].field) == (2, "event")
    assert ids(log.table()) == ["e1", "e4"]
    many = log.append((n, {}) for n in range(limits.REFUSALS + 5))
    assert (many.refused, len(many.refusals)) == (limits.REFUSALS + 5, limits.REFUSALS)


def test_order_is_user_time_arrival_and_tail_is_arrival(log):
    early = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [view(1, user="b"), view(2, user="a"), view(3, user="a", at=early), view(4, user="a")]
    rows += [view(5, user=None, session_id="a"), {**view(6, user=None), "event": "item_withdraw"}]
    log.append(enumerate(rows))
    assert ids(log.table()) == ["e3", "e2", "e4", "e1", "e5", "e6"]
    assert ids(log.tail(2)) == ["e5", "e6"]
    assert log.table()["seq"].to_pylist() == [3, 2, 4, 1, 5, 6]
    with pytest.raises(RequestError, match="more than 10,000"):
        log.tail(10_001)


def test_compaction_seals_days_and_knows_what_comes_again(log):
    today = datetime.now(UTC)
    first, second = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    rows = [
        view(1, at=first),
        view(2, at=second),
        view(3, at=today),
        view(4, at=first, items=[{"id": "x"}, {"id": "y"}]),
    ]
    log.append(enumerate(rows))
    before = log.table()
    done = log.compact()
    assert (done.sealed_lines, done.sealed_files, done.removed_lines) == (4, 2, 0)
    files = sorted(path.name for path in (log.folder / "sealed").iterdir())
    assert [name.split(".")[0] for name in files] == ["2026-01-01", "2026-01-02"]
    assert log.table().equals(before)
    assert log.append(enumerate(rows)).repeated == 4
    log.append([(1, view(5, at=first))])
    assert [ids(log.tail(n)) for n in (1, 2, 4)] == [["e5"], ["e4", "e5"], ["e3", "e4", "e4", "e5"]]
    assert log.compact().sealed_files == 1
    assert len(list((log.folder / "sealed").iterdir())) == 3
    assert sorted(log.table()["seq"].to_pylist()) == [1, 2, 3, 4, 5, 6]


def test_retention_removes_days_and_their_ids(log):
    day = (datetime(2026, 1, 3, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    rows = [view(n, at=datetime(2026, 1, n, tzinfo=UTC)) for n in (1, 2, 3)]
    log.append(enumerate(rows))
    log.compact(today=day)
    done = log.compact(1, today=day)
    assert done.removed_lines == 1
    assert ids(log.table()) == ["e2", "e3"]
    assert len(list((log.folder / "sealed").iterdir())) == 1
    assert log.append(enumerate(rows)).accepted == 1
    assert log.compact(1, today=day).removed_lines == 1
    with pytest.raises(RequestError, match="keep_days"):
        log.compact(0)


def test_what_a_killed_compaction_left_is_swept(log):
    log.append([(1, view(1))])
    (log.folder / "sealed" / "2026-01-02.1.parquet").write_bytes(b"half of a file")
    assert ids(log.table()) == ["e1"]
    log.compact()
    assert ids(log.table()) == ["e1"]


def test_only_one_process_compacts(log, workspace):
    with workspace.lock("events"), pytest.raises(DataError, match="another process"):
        log.compact()


def test_threads_share_a_commit_and_an_error_reaches_each(log):
    def run(worker):
        for start in range(0, 100, 10):
            log.append((n, view(f"{worker}-{n}")) for n in range(start, start + 10))

    threads = [threading.Thread(target=run, args=[worker]) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids(log.table()))) == 800
    failed = []
    log._connection.execute("DROP TABLE ids")
    log._writing.acquire()

    def fail(worker):
        with pytest.raises(DataError, match="no such table"):
            log.append([(1, view(worker))])
        failed.append(worker)

    threads = [threading.Thread(target=fail, args=[worker]) for worker in range(3)]
    for thread in threads:
        thread.start()
    while len(log._queue) < 3:
        time.sleep(0.001)
    log._writing.release()
    for thread in threads:
        thread.join()
    assert sorted(failed) == [0, 1, 2]


def test_a_commit_waits_for_the_disk(log):
    assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert log._connection.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_an_export_can_be_appended_elsewhere(shop, workspace, tmp_path, ending):
    rows = [view(1, items=[{"id": "x", "quantity": 2}, {"id": "y"}]), view(2, propensity=0.25, arm="b", position=3)]
    rows += [{**view(3, user=None, data={"price": "9,5 \n\"'"}), "event": "item_upsert"}, view("ü", user="日本")]
    odd = ["=1+1", "+49", "-5", "@a", "'=1", "''-", "'a", "\t=1"]
    rows += [view(f"f{number}", user=text) for number, text in enumerate(odd)]
    assert shop.events.append(rows).accepted == 12
    assert shop.events.export(tmp_path / f"out.{ending}") == 13
    other = molar.Shop(tmp_path / "shop", tmp_path / "other")
    report = other.events.append(tmp_path / f"out.{ending}")
    assert (report.accepted, report.refusals) == (13, [])
    there, here = (each.events.table().table.drop_columns(["seq", "received"]) for each in (other, shop))
    assert there.equals(here)


def test_export_refuses_what_it_cannot_write(shop, tmp_path):
    shop.events.append([VIEW])
    with pytest.raises(RequestError, match="ending"):
        shop.events.export(tmp_path / "out.xlsx")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="folder"):
        shop.events.export(tmp_path / "folder.csv")


def test_tables_come_in_through_the_catalogues_reader(shop, tmp_path):
    table = pa.table({**{name: [value] for name, value in VIEW.items()}, "timestamp": [NOON], "item_id": [7]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert shop.events.append(tmp_path / "a.parquet").accepted == 1
    pa_csv.write_csv(table, tmp_path / "a.csv")
    assert shop.events.append(tmp_path / "a.csv").repeated == 1
    assert shop.events.append(table).repeated == 1
    (tmp_path / "bad.jsonl").write_text(json.dumps({**VIEW, "event_id": "z"}) + "\n{broken\n\n[1]\n", "utf-8")
    report = shop.events.append(tmp_path / "bad.jsonl")
    assert (report.accepted, report.refused) == (1, 2)
    assert [(one.row, one.field) for one in report.refusals] == [(2, "row"), (4, "row")]
    assert "not a JSON object" in report.refusals[0].problem
    (tmp_path / "bad.csv").write_text("event_id,event\na,view,3\n", "utf-8")
    assert shop.events.append(tmp_path / "bad.csv").refusals[0].problem.startswith("bad.csv: wrong number of fields")
    for source in (tmp_path / "none.csv", tmp_path / "a.txt", {"event": "view"}, 3):
        with pytest.raises(DataError):
            shop.events.append(source)


def test_a_log_that_is_missing_foreign_or_damaged_is_named(shop, workspace):
    with pytest.raises(MissingArtefactError, match="no events"):
        shop.events.tail()
    EventLog(workspace).close()
    path = workspace.root / "events" / "log.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(StaleArtefactError, match="format 9"):
        shop.events.tail()
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(DataError, match=r"log\.sqlite"):
        shop.events.tail()


def test_a_sealed_file_that_is_damaged_or_gone_is_named(log):
    log.append([(1, view(1))])
    log.compact()
    (path,) = (log.folder / "sealed").iterdir()
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="damaged"):
        log.table()
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        log.table()


def purchase(number, item="i", *, order="T-1", **more):
    return {**view(number, **more), "event": "purchase", "transaction_id": order, "item_id": item}


def test_a_purchase_is_known_by_its_transaction_whatever_its_event_is_called(log):
    both = {**purchase(1), "items": ["i", "j", "j"]}
    assert log.append([(1, both)]).accepted == 1
    again = [purchase(2), purchase(3, "k"), purchase(4, user="other"), purchase(5, order="T-2")]
    report = log.append(enumerate(again))
    assert (report.accepted, report.repeated) == (3, 1)
    log.compact()
    assert log.append([(1, purchase(6, "j")), (2, {**both, "event_id": "e7"}), (3, both)]).repeated == 3
    assert sorted(log.table()["item_id"].to_pylist()) == ["i", "i", "i", "j", "j", "k"]


def test_rows_of_an_order_need_no_ids_of_their_own(log):
    rows = [{key: value for key, value in purchase(0, item).items() if key != "event_id"} for item in "ijk"]
    assert log.append(enumerate(rows)).accepted == 3
    assert log.append(enumerate(rows)).repeated == 3


def test_a_return_of_a_whole_order_names_no_item():
    row = {**VIEW, "event": "refund", "item_id": None, "transaction_id": "T-1"}
    (line,) = fields(row)
    assert (line["event"], line["item"], line["transaction"]) == ("return", None, "T-1")
    with pytest.raises(FieldError, match="no item"):
        fields({**VIEW, "event": "refund", "item_id": None})


def test_the_clock_of_a_sender_is_set_right():
    wrong = NOW + 3_600_000_000
    (line,) = fields({**VIEW, "timestamp": wrong - 5_000_000, "sent_at": wrong})
    assert line["time"] == NOW - 5_000_000
    (line,) = fields({**VIEW, "sent_at": "2020-01-01"})  # an archive
    assert line["time"] == NOW
    with pytest.raises(FieldError, match="sent_at"):
        fields({**VIEW, "sent_at": "now"})


def test_changes_of_items_stay_in_the_database(log):
    change = {**view(1), "event": "item_upsert", "data": {"price": 3}}
    log.append([(1, change), (2, view(2))])
    assert log.compact().sealed_lines == 1
    assert log.compact(1).removed_lines == 1
    assert ids(log.table()) == ["e1"]
    assert log.append([(1, change), (2, view(2))]).accepted == 1


def identify(number, user, session, at=NOON):
    return {"event_id": f"e{number}", "event": "identify", "user_id": user, "session_id": session, "timestamp": at}


def test_which_user_a_session_is_stays_in_the_database_until_the_retention_removes_it(log, workspace):
    told = [identify(1, "u", "s"), identify(2, "v", "s"), identify(3, "v", "t"), {**VIEW, "event_id": "e4"}]
    log.append(enumerate(told))
    assert log.compact().sealed_lines == 1
    live = EventLogReader(workspace)
    assert live.mark
    assert (live.has_identified, live.user_of("s", 9), live.user_of("x", 9)) == (True, ("u", 1), None)
    assert (live.user_of("s", 0), live.sessions_of("u", 9), live.sessions_of("v", 9)) == (None, [("s", 1)], [("t", 3)])
    with snapshot(workspace) as state:
        assert state.identified() == {"s": "u", "t": "v"}
    assert log.compact(1).removed_lines == 4
    assert not live.has_identified
    live.close()


@pytest.mark.parametrize("name", ["user_id", "session_id"])
def test_who_a_session_is_needs_both(name):
    row = {key: value for key, value in identify(1, "u", "s").items() if key != name}
    with pytest.raises(FieldError) as error:
        fields(row)
    assert error.value.field == name


def test_an_export_is_in_the_order_of_time_wherever_its_days_lie(shop, log, tmp_path):
    days = [datetime(2026, 1, n, tzinfo=UTC) for n in (3, 1, 2, 1)]
    log.append([(n, view(n, at=day, user="uvuw"[n])) for n, day in enumerate(days)])
    log.compact()
    log.append([(9, view(9, at=NOON, user="v")), (8, view(8, at=days[1].replace(hour=5), user=None, session_id="s"))])
    assert shop.events.export(tmp_path / "all.parquet") == 6
    assert ids(pq.read_table(tmp_path / "all.parquet")) == ["e1", "e3", "e8", "e2", "e9", "e0"]
    log.compact()
    shop.events.export(tmp_path / "again.parquet")
    assert pq.read_table(tmp_path / "again.parquet").equals(pq.read_table(tmp_path / "all.parquet"))
    assert shop.events.export(tmp_path / "v.csv", user_id="v", since=2) == 1
    assert ids(shop.events.table(user_id="v").table) == ["e1", "e9"]
    assert ids(shop.events.table(session_id="s").table) == ["e8"]
    assert ids(shop.events.table(since=4).table) == ["e9", "e8"]
    with pytest.raises(RequestError, match="both"):
        shop.events.table(user_id="v", session_id="s")


def test_the_settings_say_how_long_events_are_kept(shop, log):
    log.append([(1, view(1))])
    (shop.workspace.parent / "molar.toml").write_text("[events]\nkeep_days = 2\n", "utf-8")
    assert shop.events.compact().removed_lines == 1
    assert len(log.table()) == 0


def test_what_comes_too_late_is_refused_where_the_settings_say_so(shop):
    old = datetime.now(UTC) - timedelta(days=31)
    late = [view(n, at=old, sent_at=old + timedelta(minutes=1)) for n in (1, 2)]
    change = {"event_id": "c", "event": "item_upsert", "item_id": "i", "timestamp": old, "data": {"price": 2}}
    assert shop.events.append(late[:1]).accepted == 1
    (shop.workspace.parent / "molar.toml").write_text("[events]\nlate_days = 30\n", "utf-8")
    fresh = view(3, at=datetime.now(UTC) - timedelta(days=29))
    report = molar.Shop(None, shop.workspace).events.append([*late, fresh, change])
    assert (report.accepted, report.repeated, report.refused) == (2, 1, 1)
    (refusal,) = report.refusals
    assert (refusal.row, refusal.field, refusal.problem) == (2, "timestamp", "the event comes 31.0 days after its time")
    assert "late_days" in refusal.remedy


def test_processes_take_turns_at_writing(log, workspace):
    """Not SQLite's own locks do that: before 3.51.3 they could leave a damaged file behind."""
    log.append([(1, view(1))])
    other, done = EventLog(workspace), threading.Event()

    def append() -> None:
        other.append([(2, view(2))])
        done.set()

    with write_lock(log.folder):  # as another process has it
        thread = threading.Thread(target=append)
        thread.start()
        assert not done.wait(0.1)
        assert len(log.table()) == 1  # readers do not wait
    assert done.wait(10)
    thread.join()
    assert len(log.table()) == 2
    other.close()


def test_who_keeps_others_from_writing_is_told_of(log, monkeypatch):
    monkeypatch.setattr("molar_retrieval.data.event_store.WAIT", 0.05)
    with write_lock(log.folder), pytest.raises(DataError, match="another process has been writing"):
        log.append([(1, view(1))])
    assert log.append([(1, view(1))]).accepted == 1
