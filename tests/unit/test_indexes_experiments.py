"""Experiments without a server, as a simulation runs them: arms, who has them, rows that are written when it can be."""

import threading
import time

import pytest
from test_indexes_generations import release

from molar_eval.experiments import arms
from molar_eval.experiments.arms import ListWanted
from molar_eval.experiments.assignment import Asker, BackgroundLists, ExperimentRecorder
from molar_eval.experiments.routing import Experimenting, clock
from molar_indexes.recommender import Recommender
from molar_retrieval.errors import DataError
from molar_retrieval.experiments.assignment import arm_of
from molar_retrieval.experiments.definition import Arm, Experiment
from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import ExperimentSettings

NOON = 1_800_000_000_000_000
PEOPLE = [f"user {row}" for row in range(30)]
RULES = "[[rule]]\nban = \"item_id = 'item 0'\"\n"
ALL = ExperimentSettings(holdout=0.0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated")
    (root / "shop").mkdir()
    workspace = Workspace.for_catalogue(root / ".molar", root / "shop")
    release(workspace, 1, "exact").close()
    return workspace


@pytest.fixture
def workspace(shop):
    """The shop, with a record of its own."""
    yield shop
    for file in (shop.root / "experiments").glob("*"):
        file.unlink()


@pytest.fixture
def store(workspace):
    with ExperimentStore(workspace, make=True) as store:
        yield store


@pytest.fixture
def simulated(workspace):
    """Experiments of the shop by a clock of one's own: nothing happens behind anybody's back."""
    made = []

    def make(settings=ALL, background=False):
        live = Recommender.open(workspace.root)
        found = Experimenting(workspace, live, lambda *what: opened(workspace, *what), settings, background=background)
        made.append((found, live))
        return found

    yield make
    for found, live in made:
        found.close()
        live.close()


def opened(workspace, generation, rules):
    return Recommender.open(workspace.root, generation, rules=rules)


def wanted(user):
    def listed(recommender, options, last_event):
        return recommender.query(user, k=5, last_event=last_event, **options)

    return ListWanted(listed, lambda recommender, options: recommender.popular(k=5, user_id=user))


def visit(simulated, user, at=NOON, **more):
    given = simulated.answer(Asker(user, **more), wanted(user), at)
    simulated.record(given, 2.0)
    return given


def test_a_simulation_answers_by_its_own_clock(simulated, store):
    one = Experiment("e", salt="e", treatment=Arm(options={"explore": False}))
    store.start(one, "ab", NOON - 5)
    shop = simulated()
    for minute, user in enumerate(PEOPLE):
        given = visit(shop, user, NOON + minute * 60_000_000)
        assert (given.experiment, given.arm) == ("e", arm_of(one, "ab", user))
    shop.flush()
    rows = store.units("e").to_pylist()
    assert {row["unit"]: row["first"] for row in rows} == {
        user: NOON + minute * 60_000_000 for minute, user in enumerate(PEOPLE)
    }
    assert not any(row["triggered"] for row in rows), "both arms show the same"
    served = store.served("e", NOON, NOON + 3_600_000_000)
    assert [row.minute for row in served] == [NOON // 60_000_000 + minute for minute in range(30)]
    assert sum(row.answers for row in served) == 30


def test_rules_of_an_arm_hold_for_it_alone_and_are_tried_again_when_they_were_wrong(
    simulated, store, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(arms, "_AGAIN", 0.0)
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\nbann = 1\n")
    one = Experiment("rules", salt="rules", treatment=Arm(rules=str(rules)))
    store.start(one, "ab", NOON - 5)
    shop = simulated()
    treated = next(user for user in PEOPLE[3:] if arm_of(one, "ab", user) == "treatment")
    other = next(user for user in PEOPLE[3:] if arm_of(one, "ab", user) == "control")
    failed = visit(shop, treated)
    assert failed.failed
    assert any("bann" in note for note in failed.answer.notes)
    assert "treatment" in shop.running.present[0].problems
    shop.catch_up()
    assert len([record for record in caplog.records if "bann" in record.message]) == 1  # told once, tried twice
    rules.write_text(RULES)
    shop.catch_up()
    assert not visit(shop, treated).failed
    assert "item 0" not in [item.item_id for item in visit(shop, treated).answer.items]
    assert "item 0" in [item.item_id for item in visit(shop, other).answer.items]
    shop.flush()
    assert {row["unit"] for row in store.units("rules").to_pylist() if row["triggered"]} == {treated, other}


def test_who_gets_late_lists_is_compared_as_if_they_were_not_late(simulated, store):
    one = Experiment("late", salt="late", treatment=Arm(options={"explore": False}))
    store.start(one, "ab", NOON)
    shop = simulated()
    for user in PEOPLE:
        given = shop.popular(Asker(user), wanted(user), NOON)
        assert given.answer.basis == "popularity"
        shop.record(given, 900.0, late=True)
    shop.flush()
    assert {row["triggered"] for row in store.units("late").to_pylist()} == {None}
    assert sum(row.late for row in store.served("late", NOON, NOON)) == len(PEOPLE)


def test_what_another_process_begins_and_ends_is_followed(simulated, store):
    shop = simulated(background=True)
    shop.start()
    store.start(Experiment("later", salt="later", treatment=Arm(shows="nothing")), "ab", clock())
    until(lambda: shop.running.present)
    assert visit(shop, "user 1", clock()).experiment == "later"
    store.move("later", "stopped", clock(), "over")
    until(lambda: not shop.running.present)
    assert visit(shop, "user 1", clock()).experiment is None


def test_where_the_record_cannot_be_read_everybody_gets_what_is_live(simulated, store, workspace):
    store.start(Experiment("gone", salt="gone", treatment=Arm(shows="nothing")), "ab", NOON)
    shop = simulated()
    shop._store.close()
    store.close()
    store.path.write_bytes(b"no database" * 1000)
    given = visit(shop, "user 1")
    assert (given.experiment, len(given.answer.items)) == (None, 5)
    assert shop.running.problem is not None
    shop._written.close()
    store.path.unlink()
    shop.recorder = ExperimentRecorder(store)


def test_a_record_that_is_not_understood_stops_nothing(simulated, store):
    store.start(Experiment("first", salt="first", treatment=Arm(shows="nothing")), "ab", NOON)
    shop = simulated()
    with store._writing() as connection:
        connection.execute("INSERT INTO experiments VALUES ('other', '[]', 1)")
        connection.execute("INSERT INTO stages VALUES (NULL, 'other', 'ab', 1, '', '', 0)")
    shop.catch_up()
    assert "cannot be read" in shop.running.problem.message
    assert visit(shop, "user 1").experiment == "first"
    assert visit(simulated(), "user 1").experiment is None


def test_a_sample_of_requests_is_shadowed(simulated, store):
    store.start(Experiment("s", salt="s", treatment=Arm(options={"diversity": 1.0})), "shadow", NOON)
    shop = simulated(ExperimentSettings(holdout=0.0, shadow=0.001), background=True)
    shop.behind.start()
    for user in PEOPLE:
        assert visit(shop, user).experiment is None
    shop.flush()
    assert len(store.shadows("s")) == 10  # at once; more only as time goes by


def until(found):
    end = time.monotonic() + 20
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


class Failing:
    """A store that cannot be written for a while."""

    def __init__(self, store):
        self.store, self.fails = store, True

    def __getattr__(self, name):
        if self.fails:
            raise DataError("the disk is full", "make room")
        return getattr(self.store, name)


def test_what_cannot_be_written_waits_and_counts_once(store):
    failing = Failing(store)
    recorder = ExperimentRecorder(failing)
    store.start(Experiment("e"), "ab", NOON)
    recorder.assign(Assignment("e", "a", "control", 1))
    recorder.served("e", "control", NOON, 2.0, error=False, empty=False, late=False)
    recorder.flush()
    assert recorder.problem is not None
    recorder.assign(Assignment("e", "a", "treatment", 2))
    recorder.trigger("e", "a", 3)
    recorder.served("e", "control", NOON, 2.0, error=True, empty=False, late=True)
    failing.fails = False
    recorder.flush()
    recorder.flush()
    assert recorder.problem is None
    (row,) = store.units("e").to_pylist()
    assert (row["arm"], row["first"], row["triggered"]) == ("control", 1, 3)
    (served,) = store.served("e", NOON, NOON)
    assert (served.answers, served.errors, served.late, sum(served.milliseconds)) == (2, 1, 1, 2)


def test_processes_count_beside_each_other(store):
    store.start(Experiment("e"), "ab", NOON)
    recorders = [ExperimentRecorder(store) for _ in range(3)]
    for recorder in recorders:
        for _ in range(4):
            recorder.served("e", "control", NOON, 2.0, error=False, empty=False, late=False)
            recorder.flush()
    assert sum(row.answers for row in store.served("e", NOON, NOON)) == 12


def test_few_lists_wait_behind_the_answers_and_one_that_fails_ends_nothing():
    dropped, done, go = [], [], threading.Event()
    behind = BackgroundLists(background=True, dropping=lambda: dropped.append(1))
    behind.start()
    behind.do(go.wait)
    behind.do(lambda: 1 / 0)
    taken = [behind.do(lambda: done.append(1)) for _ in range(100)]
    assert 0 < taken.count(True) < 40
    assert len(dropped) == taken.count(False)
    go.set()
    behind.wait()
    assert len(done) == taken.count(True)
    behind.close()
