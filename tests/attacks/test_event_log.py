"""The event log."""

import random
import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from event_kills import survive
from studio_client import StudioClient
from typer.testing import CliRunner
from warm import MOLAR
from web_server import client_of

import molar
from molar.doctor.examine import examine
from molar_cli.app import app
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.auth import Keyring

NOW = datetime.now(UTC).replace(hour=0, minute=0, second=1, microsecond=0)


def test_kills_of_appends_and_compactions(tmp_path, rounds, measured):
    """An acknowledged event is in the log once, whatever is killed."""
    kills = rounds(4, 100)
    acknowledged, _ = survive(tmp_path, kills)
    assert acknowledged > 0
    measured(f"{kills} kills, {acknowledged:,} acknowledged events: none lost, none doubled")


def event(number):
    """An event of one of four days: one is sealed by a compaction, the others follow it or stay open."""
    kind = ("view", "purchase", "identify", "item_upsert")[number % 4 if number % 9 == 0 else number % 2]
    found = {"event_id": f"e{number}", "event": kind, "timestamp": NOW - timedelta(days=number % 4, seconds=number)}
    found |= {"user_id": f"user-{number % 17}", "session_id": f"session-{number % 31}"}
    if kind == "item_upsert":
        return found | {"item_id": f"i{number}", "data": {"price": number}, "user_id": None, "session_id": None}
    more = {"item_id": f"item-{number % 40}", "quantity": 1 + number % 3, "value": 2.5 * number}
    return found if kind == "identify" else found | more


@pytest.fixture
def log(tmp_path):
    """The workspace of a log with a sealed day, and three open ones."""
    (tmp_path / "shop").mkdir()
    workspace = Workspace.for_catalogue(tmp_path / "place" / ".molar", tmp_path / "shop")
    with closing(EventLog(workspace)) as log:
        log.append((n, event(n)) for n in range(900))
        log.compact(today=int(NOW.timestamp() // 86_400) - 2)
        log.append((n, event(n)) for n in range(900, 1500))
    return workspace


def exported(folder, name):
    molar.Shop(None, folder / ".molar").events.export(folder / name)
    return (folder / name).read_bytes()


def reported(folder):
    """What an examination of everything finds wrong with the event log."""
    found = examine(folder / ".molar", deep=True)
    return [one.problem for part in found.sections for one in part.entries if one.name == "event log" and one.problem]


def flipped(path, place, bit):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["log.sqlite", "sealed/*.parquet"])
def test_bit_rot(log, tmp_path, rounds, measured, file):
    """A changed bit of the event log is never used silently: the export is what it was, or a command reports it."""
    there, flips, dice, told = log.root.parent, rounds(60, 600), random.Random(4), 0
    whole = exported(there, "whole.jsonl")
    assert reported(there) == []
    for flip in range(flips):
        here = tmp_path / f"flip-{flip}"
        shutil.copytree(there, here)
        (path, *_) = sorted((here / ".molar" / "events").glob(file))
        flipped(path, place := dice.randrange(path.stat().st_size), dice.randrange(8))
        try:
            same = exported(here, "after.jsonl") == whole
        except MolarError:
            told += 1
        else:
            assert same or reported(here), f"byte {place:,} of {path.name} changed the export, and nothing says so"
        shutil.rmtree(here)
    assert told
    measured(f"{flips} flips of {file}: {told} refused by the export, the others changed nothing or are reported")


def test_a_damaged_row(log):
    """A changed row is named, no command uses it, and only an explicit request removes it from the log."""
    path, shop = log.root / "events" / "log.sqlite", molar.Shop(None, log.root)
    lines = len(shop.events.table())
    place = path.read_bytes().index(b"e1001purchase")  # a line's number 0 takes no byte
    flipped(path, place + 4, 0)  # e1000, which is another event
    found = reported(log.root.parent)
    assert [("log.sqlite" in one, "row 1002" in one) for one in found] == [(True, True)]
    run, place = CliRunner(), ["--workspace", str(log.root)]
    for command in (["export", str(log.root.parent / "x.csv")], ["compact"]):
        done = run.invoke(app, ["events", *command, *place])
        assert done.exit_code != 0
        assert "row 1002" in done.output.replace("\n", " ")
    done = run.invoke(app, ["events", "compact", "--force", *place])
    assert done.exit_code == 0, done.output
    assert reported(log.root.parent) == []
    assert len(shop.events.table()) == lines - 1
    assert "row 1002" in (log.root / "events" / "refused.jsonl").read_text("utf-8")


IMPOSSIBLE = ("0001-01-01T00:00:00+14:00", "0001-01-01", 0, -1, "1989-12-31T23:59:59Z", 10**30, "9999-12-31T23:59:59Z")
PAGES = ("/studio", "/studio/overview/figures", "/studio/events", "/studio/events/arrived", "/studio/events/attributed",
         "/studio/people", "/studio/people/late", "/studio/then/late", "/studio/data", "/studio/changes")  # fmt: skip


def test_a_request_with_an_impossible_time(shop, warm, tmp_path, measured):
    """No timestamp of an event sent with a page key breaks a page, a command or an answer."""
    ring = Keyring(shop.workspace)
    page = ring.add("page", ["answer", "events"], origins=["https://shop.example"])
    admin = ring.add("admin", ["answer", "events", "catalogue", "rules", "studio", "admin"])
    sent = [
        {"event_id": f"late{number}", "event": "view", "user_id": "late", "item_id": "SKU-0001", "timestamp": when}
        for number, when in enumerate(IMPOSSIBLE)
    ]
    with client_of(shop.workspace) as client:
        headers = {"authorization": f"Bearer {page}", "origin": "https://shop.example"}
        told = client.post("/v1/events", json=sent, headers=headers)
        studio = StudioClient(client)
        assert studio.sign_in(admin).status_code == 303
        broken = [path for path in PAGES if studio.get(path).status_code >= 400]
        user = client.get("/v1/users/late", headers={"authorization": f"Bearer {admin}"})
    where = ("-w", shop.workspace)
    asked = [("tail",), ("export", tmp_path / "all.csv"), ("compact",)]
    codes = {words[0]: warm.run(MOLAR, "events", *words, *where).returncode for words in asked}
    assert (broken, user.status_code) == ([], 200)
    assert set(codes.values()) <= {0, 3}, codes  # 3: there is no log yet
    assert [one["field"] for one in told.json()["rejected"]] == ["timestamp"] * len(sent)
    measured(f"{len(sent)} of {len(sent)} refused, {len(PAGES)} pages and {len(asked)} commands as before")
