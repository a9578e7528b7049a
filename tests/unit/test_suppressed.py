"""Who is on the list is left out wherever people come in, as if they had never been there; nobody else is touched."""

import json
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import molar
from molar_eval.kpi.impressions import read_impressions
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.interactions import LOG_FILE, USERS_FILE
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import NUMBER, is_current, prepare_interactions
from molar_retrieval.data.schema import read_spec
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, record, session_key, write_keys
from molar_retrieval.privacy.suppression import (
    EVER,
    FILE,
    NEVER,
    SuppressionList,
    add_session,
    mark_done,
    place,
    suppress,
    withdraw,
)
from molar_retrieval.quality.findings import FindingCollector
from molar_retrieval.quality.interactions import check_log
from molar_retrieval.workspace.artefacts import Workspace

START = 1_700_000_000
ROWS = [
    ("mia", "a", START + 1), ("u0500", "a", START + 2), ("u0500", "b", START + 3), ("tom", "b", START + 4),
    ("u0500", "zzz", START + 5), ("mia", "c", START + 6), ("tom", "c", START + 7), ("u0500", "c", START + 80),
]  # fmt: skip
WHO = "u0500"


def shop(folder, rows):
    folder.mkdir()
    pq.write_table(pa.table({"item_id": list("abc"), "title": ["one", "two", "three"]}), folder / "items.parquet")
    users, items, times = zip(*rows, strict=True)
    log = pa.table({"user_id": users, "item_id": items, "timestamp": times})
    pq.write_table(log, folder / "interactions.parquet")
    people = list(dict.fromkeys(users))
    pq.write_table(pa.table({"user_id": people, "country": ["CH"] * len(people)}), folder / "users.parquet")
    workspace = Workspace.for_catalogue(folder.parent / f"{folder.name}.molar", folder)
    prepare_catalogue(folder, workspace)
    return workspace


@pytest.fixture
def workspace(tmp_path):
    return shop(tmp_path / "shop", ROWS)


@pytest.fixture
def root(tmp_path):
    return tmp_path


def listed(root, kind="objected", who=WHO, *sessions, at=None):
    return suppress(root, kind, {who: sessions}, at=at)


def event(number, user=None, session=None, at=START + 50, kind="purchase", item="a"):
    found = {"event_id": f"e{number}", "event": kind, "item_id": item, "timestamp": at}
    return found | {name: value for name, value in (("user_id", user), ("session_id", session)) if value is not None}


def append(workspace, *events):
    log = EventLog(workspace)
    try:
        return log.append(enumerate(events, 1)), log.table()
    finally:
        log.close()


def prepared(workspace):
    """The tables of a log without the numbers of its events, and its facts without the sources (digest of the list)."""
    facts = dict(prepare_interactions(workspace.catalogue, workspace).facts)
    del facts["sources"]
    tables = [pq.read_table(workspace["interactions"].current / name) for name in (LOG_FILE, USERS_FILE)]
    return [table.select([name for name in table.column_names if name != "event_number"]) for table in tables], facts


def test_without_a_list_nobody_is_left_out(root):
    people = SuppressionList.of(root)
    assert not people
    assert people.digest is None
    assert people.user(WHO) == people.keyed(session_key(WHO)) == NEVER
    assert people.users(pa.array([WHO, None])).tolist() == [NEVER, NEVER]


def test_an_entry_names_nobody_and_is_for_its_owner_alone(root):
    listed(root, "forgotten", WHO, "session-77", at=5)
    text = (root / FILE).read_text("utf-8")
    assert WHO not in text
    assert "session-77" not in text
    assert stat.S_IMODE((root / FILE).stat().st_mode) == 0o600


def test_two_lists_have_other_hashes_of_the_same_person(root):
    (root / "one").mkdir()
    (root / "two").mkdir()
    one, two = (listed(root / name).people[0].users for name in ("one", "two"))
    assert one != two


def test_who_is_forgotten_is_left_out_up_to_a_moment_and_who_objects_for_ever(root):
    listed(root, "forgotten", at=7)
    people = listed(root, "objected", "mia")
    assert people.user(WHO) == 7
    assert people.user("mia") == EVER
    assert people.users(pa.array(["tom", WHO, None, "mia", WHO])).tolist() == [NEVER, 7, NEVER, EVER, 7]


def test_a_user_and_a_session_of_one_name_are_two(root):
    people = listed(root, "objected", WHO, "s1")
    assert people.session("s1") == people.keyed(session_key("s1")) == EVER
    assert people.session(WHO) == people.user("s1") == NEVER
    assert people.person("tom", "s1") == NEVER  # whose session it was before


def test_pseudonyms_of_somebody_are_found_under_every_key(root, monkeypatch):
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(root / "keys"))
    keys = (bytes(range(32)), bytes(range(1, 33)))
    write_keys(root / "keys", keys)
    record(root, Pseudonymiser(keys), root / "keys")
    people = listed(root, "objected", WHO, "s1")
    for count in range(3):
        named = Pseudonymiser(keys[:count])
        assert people.user(named.user(WHO)) == people.session(named.session("s1")) == EVER
    with pytest.raises(RequestError, match="is a pseudonym"):
        listed(root, "forgotten", Pseudonymiser(keys).user("mia"))


def test_a_second_request_moves_the_moment_and_is_to_be_done_again(root):
    (first,) = listed(root, "forgotten", WHO, "s1", at=5).people
    assert mark_done(root, [first], "events", "rebuilt").people[0].pending == [
        "users", "experiments", "answers", "server", "purged",
    ]  # fmt: skip
    (again,) = listed(root, "forgotten", WHO, "s2", at=9).people
    assert (again.at, len(again.sessions), again.done) == (9, 2, {})
    mark_done(root, [first], "users")  # of the request before
    assert SuppressionList.of(root).people[0].done == {}


def test_an_objection_holds_until_it_is_withdrawn(root):
    listed(root)
    withdrawn = withdraw(root, [WHO])
    assert withdrawn.user(WHO) == NEVER
    assert not withdrawn
    with pytest.raises(RequestError, match="no objection"):
        withdraw(root, [WHO])
    again = listed(root)
    assert again.user(WHO) == EVER
    assert len(again.people) == 1


def test_a_session_that_turns_out_to_be_theirs_is_to_be_removed_too(root):
    (one,) = listed(root).people
    mark_done(root, [one], "events")
    add_session(root, WHO, "late")
    add_session(root, "mia", "other")
    people = SuppressionList.of(root)
    assert (people.session("late"), people.session("other")) == (EVER, NEVER)
    assert "events" in people.people[0].pending
    mark = (root / FILE).stat().st_ino
    add_session(root, WHO, "late")
    assert (root / FILE).stat().st_ino == mark


def test_writers_take_turns(root):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: listed(root, "forgotten", f"user-{n}", at=n + 1), range(40)))
    people = SuppressionList.of(root)
    assert [people.user(f"user-{n}") for n in range(40)] == list(range(1, 41))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "salt": "00", "people": []}'])
def test_a_list_that_cannot_be_read_is_an_error_and_not_an_empty_one(root, text):
    (root / FILE).write_text(text, "utf-8")
    with pytest.raises(DataError, match=FILE):
        SuppressionList.of(root)


def test_a_list_elsewhere_outlives_the_workspace(root, monkeypatch):
    work, kept = root / "work", root / "kept" / "list.json"
    for folder in (work, kept.parent):
        folder.mkdir()
    listed(work)
    place(work, kept)
    with pytest.raises(DataError, match="elsewhere") as told:
        SuppressionList.of(work)
    assert "MOLAR_PRIVACY_SUPPRESSED_FILE" in told.value.hint
    monkeypatch.setenv("MOLAR_PRIVACY_SUPPRESSED_FILE", str(kept))
    assert json.loads((work / FILE).read_text("utf-8")) == {"file": str(kept)}
    listed(work, "forgotten", "mia", at=3)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (work / FILE).unlink()  # a backup of before there was a list
    place(work, kept)
    assert (SuppressionList.of(work).user(WHO), SuppressionList.of(work).user("mia")) == (EVER, 3)
    (work / FILE).unlink()
    assert SuppressionList.of(work).user(WHO) == EVER


def test_a_list_that_is_gone_is_an_error(root, monkeypatch):
    (root / "kept").mkdir()
    monkeypatch.setenv("MOLAR_PRIVACY_SUPPRESSED_FILE", str(root / "kept" / "list.json"))
    place(root, root / "kept" / "list.json")
    assert not SuppressionList.of(root)
    (root / "kept" / "list.json").unlink()
    place(root, root / "kept" / "list.json")  # it is not made anew: who was on it would come back
    with pytest.raises(DataError, match=r"is not at .*list\.json"):
        SuppressionList.of(root)


def test_two_lists_are_not_mixed(root):
    (root / "kept").mkdir()
    listed(root / "kept")
    listed(root, "objected", "mia")
    with pytest.raises(DataError, match="both"):
        place(root, root / "kept" / FILE)


def test_settings_say_where_the_list_is(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_PRIVACY_SUPPRESSED_FILE", f"{tmp_path}/kept.json")
    molar.Shop(None, workspace.root).opened()
    listed(workspace.root)
    assert WHO not in (tmp_path / "kept.json").read_text("utf-8")
    assert SuppressionList.of(workspace.root).file == tmp_path / "kept.json"


@pytest.mark.parametrize(
    ("kind", "at", "left"),
    [("objected", None, []), ("forgotten", (START + 79) * 1_000_000, [ROWS[-1]]), ("forgotten", None, [])],
)
def test_a_log_is_as_if_the_person_had_never_been_in_the_files(tmp_path, workspace, kind, at, left):
    never = shop(tmp_path / "never", [row for row in ROWS if row[0] != WHO or row in left])
    if left:  # of the users file nobody knows when
        table = pq.read_table(tmp_path / "never" / "users.parquet")
        pq.write_table(table.filter(pa.compute.field("user_id") != WHO), tmp_path / "never" / "users.parquet")
    prepare_interactions(workspace.catalogue, workspace)
    assert is_current(workspace.catalogue, workspace)
    listed(workspace.root, kind, at=at)
    assert not is_current(workspace.catalogue, workspace)
    assert prepared(workspace) == prepared(never)
    assert is_current(workspace.catalogue, workspace)


def test_an_objection_that_ends_brings_the_files_rows_back(workspace):
    before = prepared(workspace)
    listed(workspace.root)
    assert prepared(workspace) != before
    withdraw(workspace.root, [WHO])
    assert prepared(workspace) == before


def test_a_log_without_times_leaves_everything_of_somebody_out(tmp_path, workspace):
    table = pq.read_table(tmp_path / "shop" / "interactions.parquet").drop_columns("timestamp")
    pq.write_table(table, tmp_path / "shop" / "interactions.parquet")
    listed(workspace.root, "forgotten", at=1)
    assert prepared(workspace)[1]["users"] == 2


def test_events_of_people_on_the_list_are_taken_and_not_kept(workspace):
    listed(workspace.root, "objected", WHO, "s-object")
    listed(workspace.root, "forgotten", "mia", "s-forget", at=(START + 60) * 1_000_000)
    report, table = append(
        workspace,
        event(1, WHO), event(2, None, "s-object"), event(3, "mia"), event(4, None, "s-forget"),
        event(5, "mia", at=START + 61), event(6, None, "s-forget", at=START + 61),
        event(7, "tom", "s-object"), event(8, "tom"), event(9, "tom", kind="nonsense"),
    )  # fmt: skip
    assert (report.accepted, report.left_out, report.repeated, report.refused) == (4, 4, 0, 1)
    assert sorted(table["event_id"].to_pylist()) == ["e5", "e6", "e7", "e8"]


def test_who_objects_is_no_more_known_by_a_session_that_turns_out_to_be_theirs(workspace):
    listed(workspace.root)
    report, table = append(workspace, event(1, WHO, "s9", kind="identify"), event(2, None, "s9"), event(3, None, "s8"))
    assert (report.accepted, report.left_out) == (1, 2)
    assert table["event_id"].to_pylist() == ["e3"]


def test_a_log_of_events_that_still_has_somebody_is_read_without_them(tmp_path, workspace):
    """As a backup that was brought back may have it."""
    never = shop(tmp_path / "never", [row for row in ROWS if row[0] != WHO])
    rest = [event(4, None, "s2", item="b"), event(5, "tom", at=START + 51)]
    append(
        workspace, event(1, WHO), event(2, WHO, "s1", kind="identify"), event(3, None, "s1", item="c"), *rest,
    )  # fmt: skip
    append(never, *rest)
    listed(workspace.root, "forgotten", WHO, "s1")
    (_, facts), (_, wanted) = prepared(workspace), prepared(never)
    for name, numbers in ((LOG_FILE, [NUMBER]), (USERS_FILE, [])):  # the log of events goes on counting
        tables = [pq.read_table(one["interactions"].current / name) for one in (workspace, never)]
        assert tables[0].drop_columns(numbers) == tables[1].drop_columns(numbers)
    assert facts["interactions"] == wanted["interactions"]


def test_asking_costs_nothing_where_there_is_no_list(root):
    began = time.process_time()
    for _ in range(10_000):
        SuppressionList.of(root).user(WHO)
    assert time.process_time() - began < 0.5  # 50 µs each, on a busy machine


def test_the_list_is_read_again_when_it_changes(root):
    assert SuppressionList.of(root) is not listed(root)
    people = SuppressionList.of(root)
    assert SuppressionList.of(root) is people
    os.utime(root / FILE)
    assert replace(SuppressionList.of(root)) == people


def checked(workspace):
    """What `molar check` finds in the files, and what it says of the log."""
    found = FindingCollector(examples=100, limit=100)
    folder, people = workspace.catalogue, SuppressionList.of(workspace.root)
    summary = check_log(folder, read_spec(folder), IdMap([*"abc"]), found, now=START + 100, suppressed=people)
    return {kind: found.examples(kind) for kind in found.counts}, summary


def test_a_check_of_the_files_reads_nothing_of_them(root):
    """What is wrong is wrong in rows of others alone; rows keep the numbers that they have in the file."""
    broken = [*ROWS, ("mia", "yyy", START + 90)]
    every, others = shop(root / "every", broken), shop(root / "others", [row for row in broken if row[0] != WHO])
    assert {one.item_id for one in checked(every)[0]["log.unknown_item"]} == {"zzz", "yyy"}
    listed(every.root)
    found, summary = checked(every)
    assert [(one.item_id, one.row) for one in found["log.unknown_item"]] == [("yyy", len(broken))]
    without, right = checked(others)
    assert summary == right
    assert found.keys() == without.keys()
    assert not [one for kind in found.values() for one in kind if one.user_id == WHO]


def test_what_comes_later_is_checked_again(workspace):
    listed(workspace.root, "forgotten", at=(START + 10) * 1_000_000)
    assert checked(workspace)[1].interactions == 5
    listed(workspace.root)
    assert checked(workspace)[1].interactions == 4


@pytest.mark.parametrize("times", [True, False])
def test_what_was_shown_to_them_is_not_valued(workspace, root, times):
    shown = {"context_id": ["r1", "r2", "r3"], "user_id": [WHO, "tom", WHO], "item_id": [*"aba"]}
    shown |= {"propensity": [0.5, 0.5, "none"], "reward": [1, 0, 1]}
    shown |= {"timestamp": [START, START + 1, START + 2]} if times else {}
    path = root / "shown.csv"
    csv.write_csv(pa.table({name: [str(value) for value in values] for name, values in shown.items()}), path)
    with pytest.raises(DataError, match="row 3, column 'propensity'"):
        read_impressions(path, SuppressionList.of(workspace.root))
    listed(workspace.root, "forgotten", at=(START + 5) * 1_000_000)
    read = read_impressions(path, SuppressionList.of(workspace.root))
    assert read.users.array.to_pylist() == ["tom"]
    assert read.number.tolist() == [2]
