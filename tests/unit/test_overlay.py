"""What the events since a generation change in answers, at once."""

import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest

from molar_indexes.generations import publish, rollback
from molar_indexes.item_store import Extras
from molar_indexes.live_state import LiveIndex
from molar_indexes.recommender import Recommender
from molar_indexes.users import UserRecord
from molar_retrieval.data import live_events
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.filters import And, Between, Equals, Not, OneOf, Or, matches
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec
from molar_retrieval.ranking.query import Query
from molar_retrieval.ranking.reranker import Reranker, matrix, names
from molar_retrieval.workspace.artefacts import Workspace

FIELDS = {"price": "float", "stock": "integer", "colours": "keyword"}
N = 12
NAMES = [f"i{row}" for row in range(N)]
APPENDER = """
import sys
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace
log = EventLog(Workspace.open(__import__("pathlib").Path(sys.argv[1])))
for number, line in enumerate(sys.stdin):
    event = {"event_id": f"o{number}", "event": "item_withdraw", "item_id": line.strip(), "timestamp": 1_700_000_000}
    log.append([(1, event)])
    print(number, flush=True)
"""


def release(workspace, backend="exact", extras=None, **facts):
    facts = {"payload": {"columns": {"name": "title"}, "lists": {"colours": "|"}}} | facts
    items = [
        IndexItem(
            row,
            name,
            {"aligned": [10.0 - row / 10, 1.0], "content": [1.0, 0.1 * row]},
            {"title": name, "price": float(row), "stock": 5, "colours": ["red"]},
        )
        for row, name in enumerate(NAMES)
    ]
    publish(
        workspace,
        backend=backend,
        spec=IndexSpec(dims={"aligned": 2, "content": 2}, fields=FIELDS),
        items=items,
        users=[UserRecord("u", [1.0, 0.0], [11], times=[0])],
        popular=[(row, 99 - row) for row in range(N)],
        inputs={},
        parts={"part": (0, 1), "popularity": (1, 2)},
        extras=extras or Extras(numbers=np.zeros((N, 0), np.float32)),
        facts=facts,
    ).close()


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


@pytest.fixture
def log(workspace):
    log = EventLog(workspace)
    yield log
    log.close()


@pytest.fixture(params=["exact", "edge"])
def recommender(request, workspace):
    release(workspace, request.param)
    with Recommender.open(workspace.root) as opened:
        yield opened


class Changes:
    """Appends changes of items, numbered as they come."""

    def __init__(self, log):
        self.log, self.count = log, 0

    def __call__(self, item, **data):
        self.count += 1
        event = {"event_id": f"c{self.count}", "event": "item_upsert", "item_id": item, "timestamp": "2026-01-01"}
        report = self.log.append([(1, event | ({"data": data} if data else {"event": "item_withdraw"}))])
        assert not report.refusals
        return report.seq


@pytest.fixture
def change(log):
    return Changes(log)


def ids(answer):
    return [item.item_id for item in answer.items]


def test_what_is_withdrawn_or_sold_out_is_gone_from_every_answer_at_once(recommender, change):
    assert ids(recommender.query("u", k=3)) == ["i0", "i1", "i2"]
    change("i0")
    last = change("i1", stock=0)
    answers = [
        recommender.query("u", k=N),
        recommender.query("nobody", k=N, fallback="popular"),
        recommender.similar("i0", k=N),
        recommender.search(similar_to="i1", k=N),
    ]
    for answer in answers:
        assert not {"i0", "i1"} & set(ids(answer))
        assert "i2" in ids(answer)
        assert answer.events == last
    (listing,) = recommender.rank_many([recommender.generation.users.get("u")], Query(k=3))
    assert [place.row for place in listing.places] == [2, 3, 4]
    change("i1", stock="3")
    change("i0", active="ja")
    assert ids(recommender.query("u", k=3)) == ["i0", "i1", "i2"]


def test_what_is_available_later_comes_in_its_time(recommender, change):
    change("i0", available_from="2031-01-01")
    recommender.now = datetime(2030, 1, 1, tzinfo=UTC)
    assert ids(recommender.query("u", k=2)) == ["i1", "i2"]
    recommender.now = datetime(2032, 1, 1, tzinfo=UTC)
    assert ids(recommender.query("u", k=2)) == ["i0", "i1"]


def test_changed_fields_act_in_conditions_and_are_shown(recommender, change):
    assert ids(recommender.query("u", k=3, where="price >= 5")) == ["i5", "i6", "i7"]
    change("i2", price="7.5", name="Lamp", colours="blue|green")
    change("i5", price=1)
    change("i6", nonsense=3)
    answer = recommender.query("u", k=3, where="price >= 5")
    assert ids(answer) == ["i2", "i6", "i7"]
    assert (answer.items[0].title, answer.items[0].payload["price"]) == ("Lamp", 7.5)
    assert ids(recommender.query("u", k=3, where="colours = green")) == ["i2"]
    assert ids(recommender.query("nobody", k=2, where="price > 7", fallback="popular")) == ["i2", "i8"]
    assert ids(recommender.similar("i0", k=2, where="price > 7")) == ["i2", "i8"]
    assert ids(recommender.search(similar_to="i0", k=2, where="price > 7")) == ["i2", "i8"]
    assert set(ids(recommender.query("u", k=9, where="price > 7", candidates=["i2", "i3", "i9"]))) == {"i2", "i9"}
    change("i2", price=None)
    assert ids(recommender.query("u", k=1, where="price >= 5")) == ["i6"]


STANDARDS = {"price": (5.0, 3.0), "stock": (5.0, 1.0)}


def priced(workspace, prices, **facts):
    """A generation whose second stage likes what costs much."""
    release(workspace)
    with Recommender.open(workspace.root) as opened:
        features = names(opened.generation.table.items, tuple(STANDARDS))
    numbers = matrix({"price": np.array(prices), "stock": np.full(N, 5.0)}, STANDARDS, N)
    nothing, one = np.zeros((1, len(features))), np.zeros((1, 1))
    skip = np.array([[float(name == "price value") for name in features]])
    second = Reranker(features, STANDARDS, nothing[0], nothing[0] + 1, nothing[..., None], one, one, skip, np.ones(1))
    release(workspace, extras=Extras(numbers=numbers, reranker=second), **facts)


def test_changed_numbers_act_in_the_second_stage(workspace, change):
    prices = [float(row) for row in range(N)]
    priced(workspace, prices)
    with Recommender.open(workspace.root) as recommender:
        before = recommender.query("u", k=N)
        change("i2", price=40.0)
        change("i7", price=None)
        change("i3", stock=9)
        change("i2", price=30.0)
        after = recommender.query("u", k=N)
        store = recommender.ranker.store
    prices[2], prices[7] = 30.0, float("nan")
    stocks = [9.0 if row == 3 else 5.0 for row in range(N)]
    wanted = matrix({"price": np.array(prices), "stock": np.array(stocks)}, STANDARDS, N)
    np.testing.assert_array_equal(store.numbers, wanted)
    assert (ids(before)[0], ids(after)[0]) == ("i10", "i2")
    priced(workspace, prices, events={"catalogue": after.events})
    with Recommender.open(workspace.root) as recommender:
        anew = recommender.query("u", k=N)
    assert [(item.item_id, item.score) for item in after.items] == [(item.item_id, item.score) for item in anew.items]


def test_each_state_has_its_own_numbers_and_others_stay_those_of_the_generation(workspace):
    priced(workspace, [float(row) for row in range(N)])
    with Recommender.open(workspace.root) as recommender:
        table = recommender.generation.table
        first = LiveIndex(recommender.generation.index)
        assert first.with_changes([(1, {"colours": ["blue"]})]).store(table.items, STANDARDS) is table.items
        second = first.with_changes([(1, {"price": [1.0, 2.0]})])
        third = second.with_changes([(1, {"price": 8.0}), (4, {"price": 2})])
        price = [
            [one.store(table.items, STANDARDS).numbers[row, 0] * 3 + 5 for row in (1, 4)] for one in (third, second)
        ]
        np.testing.assert_allclose(price, [[8, 2], [1.5, 4]])


def test_changed_fields_act_in_rules(workspace, change, tmp_path):
    release(workspace)
    words = ", ".join(f"shade{n}" for n in range(150))
    rules = tmp_path / "rules.toml"
    rules.write_text(
        "[[rule]]\nrequire = 'price < 8'\n[[rule]]\nban = 'colours = violet'\n[[rule]]\npin = ['i6']\nat = 1\n"
        f"[[rule]]\nban = 'colours in ({words})'\n[[rule]]\nat_least = 1\nof = 'price = 3.5'\n",
        "utf-8",
    )
    with Recommender.open(workspace.root, rules=rules) as recommender:
        assert ids(recommender.query("u", k=3)) == ["i6", "i0", "i1"]
        change("i0", price=9)
        change("i1", colours="violet")
        change("i2", colours="shade7")
        change("i9", price=3.5)
        answer = recommender.query("u", k=3)
        assert ids(answer) == ["i6", "i3", "i9"], "i9 is cheap now, and the only one that the quota asks for"
        change("i6", price=8)
        answer = recommender.query("u", k=3)
        assert ids(answer) == ["i3", "i4", "i9"]
        assert any("i6" in note for note in answer.notes)
        change("i2", colours="red")
        assert ids(recommender.query("u", k=2)) == ["i2", "i9"]


@pytest.mark.parametrize("seed", range(3))
def test_conditions_are_those_of_a_scan(recommender, log, seed):
    draw = random.Random(seed)
    payloads = {item.item_id: dict(item.payload) for item in recommender.generation.index.fetch(range(N))}
    conditions = [
        Between("price", gte=4),
        Not(Equals("colours", "red")),
        And((Between("price", lt=9), Or((Equals("colours", "blue"), Between("price", gt=6))))),
        OneOf("colours", ("blue", "green")),
        Not(Between("price", gte=4)),
    ]
    change = Changes(log)
    for _ in range(30):
        for _ in range(draw.randint(1, 3)):
            item = draw.choice(NAMES)
            data = draw.choice([{"price": draw.randint(0, 12)}, {"colours": draw.choice(["red", "blue"])}])
            data = draw.choice([data, {"price": None}])
            change(item, **data)
            new = {k: [v] if k == "colours" else v for k, v in data.items()}
            payloads[item] = {k: v for k, v in (payloads[item] | new).items() if v is not None}
        where = draw.choice(conditions)
        found = recommender.query("u", k=N, where=where, filter_seen=False)
        assert set(ids(found)) == {name for name, payload in payloads.items() if matches(where, payload)}
        assert all(item.payload == payloads[item.item_id] for item in found.items)


def test_many_changes_begin_a_new_journal(monkeypatch):
    monkeypatch.setattr("molar_indexes.live_state._JOURNAL", 3)

    class Items:
        def fetch(self, rows, vectors=()):
            from molar_retrieval.ranking.index_protocol import StoredItem

            return [StoredItem(row, f"i{row}", {"price": 0}) for row in rows]

    live, where = LiveIndex(Items()), Between("price", gt=5)
    for number in range(20):
        live = live.with_changes([(number % 7, {"price": number})])
        wanted = {row for row, values in live.values.items() if values["price"] > 5}
        assert set(live.turned(where).into) == wanted


def test_a_generation_knows_the_events_that_it_contains(workspace, change):
    release(workspace)
    with Recommender.open(workspace.root) as recommender:
        last = change("i0")
        assert ids(recommender.query("u", k=1)) == ["i1"]
        first = recommender.generation.name
        release(workspace, events={"catalogue": last, "interactions": last, "kinds": {}})
        assert ids(recommender.query("u", k=1)) == ["i0"], "this one says that it contains the withdrawal, and has i0"
        rollback(workspace, first)
        assert ids(recommender.query("u", k=1)) == ["i1"]


@pytest.mark.alone
def test_what_another_process_appends_is_seen_within_a_second(workspace):
    release(workspace)
    with Recommender.open(workspace.root) as recommender:
        recommender.query("u")
        command = [sys.executable, "-c", APPENDER, str(workspace.root)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in NAMES[:5]:
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            process.stdout.readline()
            began = time.perf_counter()
            assert name not in ids(recommender.query("u"))
            assert time.perf_counter() - began < 1
        process.stdin.close()
        assert process.wait() == 0
        process.stdout.close()


def test_no_answer_is_of_two_states(recommender, log):
    """Prices of all items change in one commit: an answer shows one price, in its items and in its condition."""
    stop, wrong = threading.Event(), []

    def ask():
        while not stop.is_set():
            answer = recommender.query("u", k=N, where="price >= 100", filter_seen=False)
            prices = {item.payload["price"] for item in answer.items}
            if len(prices) > 1 or len(answer.items) not in (0, N):
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(30):
        price = 100 + step if step % 3 else 50
        rows = [{"event_id": f"p{step}-{name}", "item_id": name, "data": {"price": price}} for name in NAMES]
        log.append(enumerate(row | {"event": "item_upsert", "timestamp": 1_700_000_000} for row in rows))
        assert len(recommender.query("u", k=N, where="price >= 100", filter_seen=False).items) == (N if step % 3 else 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_workspace_without_events_stays_without(workspace):
    release(workspace)
    with Recommender.open(workspace.root) as recommender:
        answer = recommender.query("u")
    assert answer.events == 0
    assert not (workspace.root / "events").exists()


def test_a_damaged_log_is_told_and_keeps_no_answer_out(workspace, change):
    release(workspace)
    change("i0")
    change.log.close()
    (workspace.root / "events" / "log.sqlite").write_bytes(b"no database at all" * 100)
    with Recommender.open(workspace.root) as recommender:
        answer = recommender.query("u", k=1)
    assert ids(answer) == ["i0"]
    assert "what happened since" in answer.notes[0]


def test_a_list_is_for_a_user_or_a_session(recommender):
    for whom in ({}, {"user_id": "u", "anonymous_id": "s"}, {"user_id": "u", "session": ["i0"]}):
        with pytest.raises(RequestError, match="a user, an anonymous visitor or a session"):
            recommender.query(**whom, fallback="error")
    with pytest.raises(RequestError, match="known of the anonymous visitor 's'"):
        recommender.query(anonymous_id="s", fallback="error")


def test_where_nobody_can_write_the_log_is_read_as_it_is(workspace, change, monkeypatch):
    """Without files beside it, which cannot be made there, a log opens all the same."""
    release(workspace)
    change("i0")
    change.log.close()
    folder = workspace.root / "events"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(before) == {"log.lock", "log.sqlite", "sealed"}
    former = sqlite3.connect

    class Refused:
        def execute(self, _):
            raise sqlite3.OperationalError("unable to open database file")

        def close(self):
            pass

    def connect(address, *arguments, **options):
        return Refused() if str(address).endswith("log.sqlite?mode=ro") else former(address, *arguments, **options)

    monkeypatch.setattr(live_events.sqlite3, "connect", connect)
    monkeypatch.setattr(live_events.os, "access", lambda *_: False)
    with Recommender.open(workspace.root) as recommender:
        assert ids(recommender.query("u", k=1)) == ["i1"]
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
        monkeypatch.setattr(live_events.sqlite3, "connect", former)
        with closing(EventLog(workspace)) as log:  # from where it can be written
            another = Changes(log)
            another.count = 1
            another("i1")
            assert ids(recommender.query("u", k=1)) == ["i2"]
