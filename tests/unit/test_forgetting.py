"""Who is forgotten or objects: served as nobody from that moment on, and gone from all that names people."""

import json
import sqlite3
from contextlib import closing

import msgspec
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace
from qdrant_fake import fake_qdrant
from served import patient
from typer.testing import CliRunner

import molar
from molar.introducing.outside import assign
from molar_cli.app import app
from molar_indexes.generations import USERS, open_generation
from molar_indexes.privacy.forgetting import heed, remove_answers, remove_users
from molar_indexes.privacy.server import scan_server
from molar_indexes.privacy.stored import KnownPerson
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import is_current as generation_is_current
from molar_indexes.server.client import connected
from molar_indexes.server.opening import open_served
from molar_indexes.users import UserRecord, UserStore, write_users
from molar_indexes.verify import verify
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.event_log_reader import snapshot
from molar_retrieval.data.event_removal import remove_lines
from molar_retrieval.data.prepare_interactions import is_current, prepare_interactions
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.experiments.definition import Experiment
from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, session_key, write_keys
from molar_retrieval.privacy.pseudonyms import record as record_keys
from molar_retrieval.privacy.suppression import SuppressionList, suppress
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Workspace

DAY = 86_400
START = 1_700_006_400  # midnight
WHO, SESSION = "forgetme-0500", "cookie-7777"


def event(number, user=None, session=None, at=START, kind="purchase", item="SKU-0003", **more):
    found = {"event_id": f"e{number}", "event": kind, "timestamp": at, **more}
    named = ("user_id", user), ("session_id", session), ("item_id", None if kind == "identify" else item)
    return found | {name: value for name, value in named if value is not None}


def append(workspace, *events):
    with closing(EventLog(workspace)) as log:
        return log.append(enumerate(events, 1))


def all_ids(workspace):
    with closing(EventLog(workspace)) as log:
        return sorted(log.table()["event_id"].to_pylist())


def bytes_with(folder, *names):
    """Files that have one of some names in their bytes, or in the values of a Parquet file."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            values = str(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else path.read_bytes()
            found += [path.name for name in names if name.encode() in values]
    return found


@pytest.fixture
def place(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text("item_id,title\nSKU-0003,Chair\n", "utf-8")
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def test_lines_leave_the_log_with_every_byte(place):
    append(
        place, event(1, WHO, transaction_id="T1"), event(2, WHO, SESSION, kind="identify"), event(3, None, SESSION),
        event(4, "tom"), event(5, WHO, at=START + 3 * DAY), event(6, "tom", at=START + 3 * DAY),
        event(7, WHO, kind="item_upsert", data={"price": 2}), event(8, WHO, at=START + 5 * DAY),
    )  # fmt: skip
    with closing(EventLog(place)) as log:
        log.compact(today=START // DAY + 1)
    append(place, event(9, WHO, at=START + 1))  # late, of a sealed day
    people = suppress(place.root, "forgotten", {WHO: [SESSION]}, at=(START + 4 * DAY) * 1_000_000)
    removed = remove_lines(place, people)
    assert removed == 6
    assert all_ids(place) == ["e4", "e6", "e7", "e8"]
    append(place, event(8, WHO, at=START + 5 * DAY))
    remove_lines(place, suppress(place.root, "objected", {WHO: [SESSION]}))
    assert all_ids(place) == ["e4", "e6", "e7"]
    assert bytes_with(place.root / "events", WHO, SESSION) == []
    with closing(sqlite3.connect(place.root / "events" / "log.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM ids WHERE event_id IN ('e1', 'e3', 'e9')").fetchone() == (0,)
        assert connection.execute("SELECT sum(lines) FROM sealed").fetchone() == (1,)
    assert remove_lines(place, SuppressionList.of(place.root)) == 0


def test_people_under_pseudonyms_are_found_by_the_shops_id(place, tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(tmp_path / "keys"))
    write_keys(tmp_path / "keys", [bytes(range(32))])
    record_keys(place.root, Pseudonymiser((bytes(range(32)),)), tmp_path / "keys")
    append(
        place, event(1, WHO, transaction_id="T1"), event(2, WHO, SESSION, kind="identify"), event(3, None, SESSION),
        event(4, "tom"),
    )  # fmt: skip
    done = heed(place, None, "objected", [WHO, "nobody"])
    assert (done.removed["events"], done.unknown) == (3, ["nobody"])
    assert append(place, event(5, WHO), event(6, None, SESSION)).left_out == 2
    assert append(place, event(7, WHO, "other", kind="identify"), event(8, None, "other")).left_out == 2
    assert heed(place, None, "objected", [WHO]).removed["events"] == 0
    assert all_ids(place) == ["e4"]


@pytest.mark.parametrize("keyed", [False, True])
def test_an_anonymous_visitor_is_forgotten_by_the_session(place, tmp_path, monkeypatch, keyed):
    if keyed:
        monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(tmp_path / "keys"))
        write_keys(tmp_path / "keys", [bytes(range(32))])
        record_keys(place.root, Pseudonymiser((bytes(range(32)),)), tmp_path / "keys")
    stored = Pseudonymiser.of(place.root).session(SESSION)
    append(
        place, event(1, None, SESSION), event(2, None, SESSION, at=START + 3 * DAY), event(3, None, "other"),
        event(4, "tom"), event(5, SESSION), event(6, None, SESSION, at=START + DAY),
    )  # fmt: skip
    with closing(EventLog(place)) as log:
        log.compact(today=START // DAY + 1)
    answers = place.root / "serving" / "answers.sqlite"
    answers.parent.mkdir()
    with closing(sqlite3.connect(answers)) as connection, connection:
        connection.execute("CREATE TABLE answers (id TEXT PRIMARY KEY, placement TEXT, content BLOB)")
        question = [b"{}", "RecommendationRequest", {"anonymous_id": SESSION}, "g"]
        connection.execute("INSERT INTO answers VALUES ('a', NULL, ?)", [msgspec.msgpack.encode(question)])
    privacy = molar.Shop(None, place.root).privacy
    done = privacy.forget(session_ids=[SESSION, "nobody-has-this"], later=True)
    assert (done.people, done.unknown, done.failed) == (2, ["nobody-has-this"], {})
    assert (done.removed["events"], done.removed["answers"]) == (3, 1)
    assert all_ids(place) == ["e3", "e4", "e5"]  # e5 is of a user whose id is the same
    assert privacy.forget(SESSION, later=True).removed["events"] == 1
    assert bytes_with(place.root, stored) == []
    late = append(place, event(7, None, SESSION, at=START), event(8, None, SESSION, at=4_000_000_000))
    assert late.left_out == 1
    assert privacy.forget(session_ids="somebody-else", later=True).unknown == ["somebody-else"]


@pytest.mark.parametrize("keyed", [False, True])
def test_an_id_like_an_unknown_one_is_suggested(place, tmp_path, monkeypatch, keyed):
    if keyed:
        monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(tmp_path / "keys"))
        write_keys(tmp_path / "keys", [bytes(range(32))])
        record_keys(place.root, Pseudonymiser((bytes(range(32)),)), tmp_path / "keys")
    append(place, event(1, "tom.wolf@shop"), event(2, None, "cookie-a"), event(3, "anna@shop"))
    asked = ["privacy", "forget", "--later", "--workspace", str(place.root)]
    for typed, meant in ((["Tom.Wolf@shop "], "tom.wolf@shop"), (["--session", "COOKIE-A"], "cookie-a")):
        done = CliRunner().invoke(app, [*asked, *typed])
        assert (done.exit_code, f"did you mean {meant}?" in done.output) == (1, True), done.output
    assert "did you mean" not in CliRunner().invoke(app, [*asked, "somebody"]).output
    assert all_ids(place) == ["e1", "e2", "e3"]


def test_a_session_that_is_a_users_is_told_to_be_so(place):
    append(place, event(1, None, SESSION), event(2, "tom", SESSION, kind="identify"), event(3, "tom", SESSION))
    done = molar.Shop(None, place.root).privacy.forget(session_ids=SESSION, later=True)
    assert (done.removed["events"], done.unknown, done.identified) == (1, [], [SESSION])
    assert all_ids(place) == ["e2", "e3"]


def test_a_sealed_day_is_what_its_digest_says_after_somebody_left_it(place):
    append(place, *(event(n, (WHO, "tom")[n % 2], at=START + n // 2 * 3 * DAY) for n in range(4)))
    with closing(EventLog(place)) as log:
        log.compact(today=START // DAY + 1)
        remove_lines(place, suppress(place.root, "objected", {WHO: []}))
        assert log.export(place.root / "e.jsonl") == 2
        with snapshot(place) as state:
            assert state.damage() == []
        log.compact(today=START // DAY + 5)
        log.compact(2, today=START // DAY + 5)
        with snapshot(place) as state:
            assert state.damage() == []
        assert log.table()["event_id"].to_pylist() == ["e3"]


def test_a_day_of_nobody_else_goes_as_a_whole(place):
    append(place, event(1, WHO), event(2, "tom", at=START + 3 * DAY))
    with closing(EventLog(place)) as log:
        log.compact(today=START // DAY + 1)
    remove_lines(place, suppress(place.root, "objected", {WHO: []}))
    assert all_ids(place) == ["e2"]
    assert list((place.root / "events" / "sealed").iterdir()) == []


def test_a_kill_before_the_sealed_day_was_written_is_made_up_for(place, monkeypatch):
    append(place, event(1, WHO), event(2, "tom"))
    with closing(EventLog(place)) as log:
        log.compact(today=START // DAY + 1)
    people = suppress(place.root, "objected", {WHO: []})
    monkeypatch.setattr(
        "molar_retrieval.data.event_removal._replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        remove_lines(place, people)
    monkeypatch.undo()
    assert remove_lines(place, people) == 1
    assert all_ids(place) == ["e2"]


def test_an_append_that_was_under_way_keeps_nobody(place, monkeypatch):
    """Who was put on the list after the events were looked at, and before they were committed, is not kept either."""
    with closing(EventLog(place)) as log:
        durable = log._durable

        def late(events):
            suppress(place.root, "objected", {WHO: []})
            return durable(events)

        monkeypatch.setattr(log, "_durable", late)
        log.append(enumerate([event(1, WHO), event(2, "tom")]))
    assert all_ids(place) == ["e2"]


def record(key, times=(1,)):
    return UserRecord(key, [1.0, 0.0], [0] * len(times), times=list(times))


def test_users_are_written_anew_without_somebody(place, tmp_path):
    folder = place["generations"].partial("g1")
    (folder / "manifest.json").write_text("{}", "utf-8")
    users = [record("anna"), record(WHO), record(session_key(SESSION)), record("tom", (1, 9)), record("zoe", (8, 9))]
    write_users(folder / USERS, users, dim=2, items=1)
    artefacts.write_inventory(folder)
    final = folder.rename(folder.with_suffix(""))
    (place["generations"].root / "current").write_text("g1\n", "utf-8")
    suppress(place.root, "objected", {WHO: [SESSION]})
    people = suppress(place.root, "forgotten", {"tom": [], "zoe": []}, at=5_000_000)
    mark = (place["generations"].root / "current").stat().st_ino
    assert remove_users(place, people) == [session_key(SESSION), WHO, "tom"]
    with UserStore(final / USERS) as store:
        assert [user.user_id for user in store.between(0, 9)] == ["anna", "zoe"]  # zoe came back later
        assert (len(store), store.removed) == (2, 3)
    assert artefacts.check_inventory(final, digests=True) == []
    assert bytes_with(final, WHO, SESSION) == []
    assert (place["generations"].root / "current").stat().st_ino != mark  # who follows it opens it again
    assert remove_users(place, people) == []


def test_records_of_experiments_go(place):
    plan = {"name": "e", "hypothesis": "h", "treatment": {"options": {"k": 5}}, "metric": "purchase_rate"}
    with ExperimentStore(place, make=True) as store:
        with closing(sqlite3.connect(store.path)) as connection, connection:
            connection.execute("INSERT INTO experiments VALUES ('e', ?, 1)", [json.dumps(plan)])
        store.assign([Assignment("e", WHO, "control", 3), Assignment("e", "tom", "control", 3)])
        store.record_lists("e", [("r1", WHO, 3, {}), ("r2", WHO, 9, {})])
        assert store.remove(lambda unit, at: unit == WHO and at < 5) == 2
        assert store.units("e")["unit"].to_pylist() == ["tom"]
        assert store.lists("e")["request_id"].to_pylist() == ["r2"]
        assert store.remove(lambda unit, at: unit == WHO) == 1
        assert WHO.encode() not in store.path.read_bytes()


def test_answers_to_somebody_go_and_others_stay(place):
    path = place.root / "serving" / "answers.sqlite"
    path.parent.mkdir()
    asked = {"1": {"user_id": WHO}, "2": {"anonymous_id": SESSION}, "3": {"user_id": "tom"}, "4": None}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE answers (id TEXT PRIMARY KEY, placement TEXT, content BLOB)")
        for name, question in asked.items():
            body = msgspec.json.encode({"items": [], "user_id": WHO if name == "4" else None})
            content = msgspec.msgpack.encode([body, "RecommendationRequest", question, "g"])
            connection.execute("INSERT INTO answers VALUES (?, NULL, ?)", [name, content])
    assert remove_answers(place, suppress(place.root, "objected", {WHO: [SESSION]})) == 3
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM answers").fetchall() == [("3",)]


@pytest.fixture(scope="module")
def shop(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("forgetting")
    workspace = copy_workspace(trained.workspace, folder / ".molar")
    return molar.Shop(copy_workspace(trained.shop, folder / "shop"), workspace)


@pytest.fixture(scope="module")
def recommender(shop):
    with Recommender.open(shop.workspace) as recommender:
        yield recommender


def people_of(shop, count):
    with open_generation(Workspace(shop.workspace)) as generation:
        return [user.user_id for user in generation.users.between(0, count)]


def personal(recommender, user, **more):
    return recommender.query(user, k=5, fallback="popular", **more).basis != "popularity"


def test_who_is_forgotten_is_nobody_from_then_on(shop, recommender):
    gone, other = people_of(shop, 12)[10:]
    append(Workspace(shop.workspace), event(20, gone, SESSION, kind="identify"), event(21, None, SESSION))
    assert personal(recommender, gone)
    assert recommender.query(anonymous_id=SESSION).items
    before = [item.item_id for item in recommender.query(other, k=5).items]
    done = shop.privacy.forget([gone, "nobody-has-this"], reason="asked by letter", later=True)
    assert not personal(recommender, gone)
    with pytest.raises(RequestError):
        recommender.query(gone, fallback="error")
    with pytest.raises(RequestError):
        recommender.query(anonymous_id=SESSION, fallback="error")
    assert [item.item_id for item in recommender.query(other, k=5).items] == before
    assert done.unknown == ["nobody-has-this"]
    assert (done.people, done.failed, done.pending) == (2, {}, ["rebuilt", "purged"])
    assert (done.removed["users"], done.removed["events"]) == (1, 2)
    assert done.source_rows["interactions.parquet"] > 0
    assert gone not in people_of(shop, 200)
    with open_generation(Workspace(shop.workspace)) as generation:
        assert verify(generation, deep=True) == []
    again = shop.privacy.forget(gone, later=True)
    assert (again.removed["users"], again.unknown) == (0, [])  # the file still has them


def test_what_comes_later_of_somebody_forgotten_counts_again(shop, recommender):
    gone = people_of(shop, 30)[20]
    shop.privacy.forget(gone, later=True)
    append(Workspace(shop.workspace), event(30, gone, at=START), event(31, gone, at=4_000_000_000_000_000 // 10**6))
    assert not personal(recommender, gone)
    with closing(EventLog(Workspace(shop.workspace))) as log:
        moment = SuppressionList.of(shop.workspace).user(gone) // 1_000_000 + 1
        log.append([(1, event(32, gone, at=moment, item="SKU-0003"))])
    assert personal(recommender, gone)
    history = recommender.query(gone, k=5, filter_seen=True)
    assert "SKU-0003" not in [item.item_id for item in history.items]


def test_who_objects_gets_what_most_people_took_and_never_an_error(shop, recommender):
    (who,) = people_of(shop, 41)[40:]
    popular = [item.item_id for item in recommender.popular(k=5).items]
    shop.privacy.object(who, later=True)
    answer = recommender.query(who, k=5)
    assert [item.item_id for item in answer.items] == popular
    assert any("objects" in note for note in answer.notes)
    assert len(recommender.search(similar_to="SKU-0003", user_id=who, k=3).items) == 3
    report = append(Workspace(shop.workspace), event(40, who))
    assert (report.accepted, report.left_out) == (0, 1)
    assert recommender.query(who, k=5).basis == "popularity"
    assert shop.privacy.withdraw(who) == 1
    append(Workspace(shop.workspace), event(41, who))
    assert personal(recommender, who)


def test_nobody_is_answered_by_a_generation_that_still_has_them(shop, recommender, monkeypatch):
    """What is on the list alone, as before anything was removed, or after a backup was brought back."""
    gone, objects, rest = people_of(shop, 53)[50:]
    for kind, who in (("forgotten", gone), ("objected", objects)):
        suppress(shop.workspace, kind, {who: []})
    assert not personal(recommender, gone)
    assert not personal(recommender, objects)
    with recommender.answering() as answerer:
        users = [answerer.generation.users.get(who) for who in (gone, objects, rest)]
    from molar_retrieval.ranking.query import Query

    lists = list(recommender.rank_many(users, Query(k=3)))
    assert [len(one.places) for one in lists] == [0, 0, 3]


def test_a_step_that_fails_is_told_and_done_by_running_it_again(shop, monkeypatch):
    (who,) = people_of(shop, 61)[60:]

    def busy(*_):
        raise DataError("another process is publishing", "wait")

    monkeypatch.setattr("molar_indexes.privacy.forgetting.remove_users", busy)
    done = shop.privacy.forget(who, later=True)
    assert list(done.failed) == ["users"]
    assert "users" in done.pending
    monkeypatch.undo()
    done = shop.privacy.forget(who, later=True)
    assert (done.failed, done.pending) == ({}, ["rebuilt", "purged"])
    assert who not in people_of(shop, 200)


@pytest.mark.parametrize("ids", [[], "", [""], ["x" * 3000]])
def test_who_is_meant_must_be_said(shop, ids):
    with pytest.raises(RequestError):
        shop.privacy.forget(ids, later=True)


def test_points_leave_the_collections_of_people_on_a_server(shop, tmp_path, monkeypatch):
    there = people_of(shop, 200)
    gone, last = there[70], there[-1]
    with fake_qdrant() as fake:
        settings = tmp_path / "server.toml"
        settings.write_text('[index]\nusers = "server"\ntimeout = 30\n')
        monkeypatch.setenv("MOLAR_INDEX_URL", fake.url)
        served = molar.Shop(shop.catalogue, shop.workspace, settings)
        served.push()
        done = served.privacy.forget([gone, last], later=True)
        assert (done.failed, done.removed["server"]) == ({}, 2)
        server = patient(fake.url, users="server")
        with connected(server) as connection:
            found = scan_server(connection, KnownPerson(gone, gone, [gone, last], []))
        assert [one.state for one in found] == ["clean", "clean"]
        with open_served(Workspace(shop.workspace), server) as generation:
            left = [user.user_id for one in range(len(there) - 2) for user in generation.users.between(one, one + 1)]
            assert len(generation.users) == len(there) - 2
        assert sorted(left) == sorted(set(there) - {gone, last})
        assert served.push().up_to_date
        assert served.privacy.forget(gone, later=True).removed["server"] == 0
    again = served.privacy.forget(gone, later=True)  # nobody is there any more
    assert list(again.failed) == ["server"]
    assert "server" in again.pending


def test_assignments_from_elsewhere_put_nobody_on_record_who_objects(place, tmp_path):
    suppress(place.root, "objected", {WHO: []})
    plan = {"name": "e", "assigned": "elsewhere", "treatment": {"options": {"diversity": 0.5}}}
    flags = tmp_path / "flags.csv"
    flags.write_text(f"user_id,arm,timestamp\n{WHO},control,{START}\ntom,control,{START}\n", "utf-8")
    with ExperimentStore(place, make=True) as store:
        store.start(Experiment.from_dict(plan), "ab", START * 1_000_000)
        report = assign(place, "e", flags, (START + DAY) * 1_000_000)
        assert (report.accepted, report.left_out, report.refused) == (1, 1, 0)
        assert store.units("e")["unit"].to_pylist() == ["tom"]


def test_purchases_of_who_objects_plan_no_experiment(shop):
    from molar_eval.experiments.covariates import past_purchases

    (who,) = people_of(shop, 81)[80:]
    assert who in past_purchases(Workspace(shop.workspace)).keys
    suppress(shop.workspace, "objected", {who: []})
    assert who not in past_purchases(Workspace(shop.workspace)).keys


def test_the_next_update_makes_all_anew_without_them(shop):
    """Comes last: it prepares another log, of which factors, alignment and generation are not made any more."""
    (gone,) = people_of(shop, 91)[90:]
    shop.privacy.forget(gone, later=True)
    place, settings = Workspace(shop.workspace), shop.settings
    former = place["interactions"].manifest
    assert not is_current(place.catalogue, place)
    assert prepare_interactions(place.catalogue, place).facts["users"] < former.facts["users"]
    assert not generation_is_current(place, settings.index, settings.exploration)
    users = pq.read_table(place["interactions"].current / "users.parquet")["user_id"].to_pylist()
    assert len(users) > 100
    assert gone not in users
