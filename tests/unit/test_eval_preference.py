"""Preferences of people by interleaved lists: the test at any look, and what the event log says came of them."""

import json
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from molar_eval.experiments.exposure import ItemPrices
from molar_eval.experiments.interleaving import Credits, credits, preference
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.event_store import DAY
from molar_retrieval.experiments.definition import Arm, Experiment
from molar_retrieval.experiments.interleaving import coin, interleave
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace.artefacts import Workspace

RUNS = int(os.environ.get("MOLAR_TEST_EXPERIMENT_RUNS", "400"))  # 4,000 for docs/experiments.md
THEN = datetime(2026, 1, 5, 12, tzinfo=UTC)
MICROS, HOUR = int(THEN.timestamp()) * 1_000_000, DAY // 24


def of_rows(people, rows):
    """Credits of rows of person, day and credit."""
    person, day, credit = np.array(rows, float).reshape(-1, 3).T
    return Credits(people, person.astype(np.int64), day.astype(np.int64), credit)


def votes(wins, losses, alpha=0.05):
    """The preference of people who vote once."""
    signs = np.repeat([1.0, -1.0], [wins, losses])
    return preference(Credits(len(signs), np.arange(len(signs)), np.zeros(len(signs), np.int64), signs), alpha)


def test_everybody_has_one_vote_a_day():
    rows = [(0, 3, 1.0), (0, 3, -0.25), (0, 9, 5.0), (0, 10, -9.0), (1, 2, 0.4), (1, 2, -0.4), (1, 4, -0.1)]
    rows += [(2, 5, 0.3), (2, 5, -0.3), (3, 1, 2.0), (3, 2, -1.0)]
    found = preference(of_rows(7, rows))
    assert (found.wins, found.losses, found.ties, found.people) == (1, 1, 5, 7)
    assert found.preference == 0  # three votes for either
    assert found.p == 1
    assert found.low < 0 < found.high
    assert preference(of_rows(7, [row for row in rows if row[1] < 4])).preference == 1 / 3


def test_of_nobody_nothing_is_known():
    found = preference(of_rows(0, []))
    assert (found.preference, found.low, found.high, found.p) == (0, -1, 1, 1)


def test_the_interval_leaves_out_nothing_just_where_p_is_small():
    for wins, losses in ((60, 30), (57, 33), (30, 60), (300, 240), (0, 12), (40, 0), (3000, 2700)):
        for alpha in (0.05, 0.01):
            found = votes(wins, losses, alpha)
            assert (found.p < alpha) == (found.low > 0 or found.high < 0)
            assert -1 <= found.low <= found.preference <= found.high <= 1
    assert votes(300, 240).high - votes(300, 240).low < 0.5 * (votes(30, 24).high - votes(30, 24).low)


def test_no_preference_is_found_wrongly_at_any_look_with_more_than_the_chance_that_is_allowed():
    """Exactly: the chance that a fair toss is ever taken for an unfair one within 600 people, looked at after each."""
    inside, wrong, least = {0: 1.0}, 0.0, 0
    for people in range(1, 601):
        after: dict[int, float] = {}
        for wins, chance in inside.items():
            for new in (wins, wins + 1):
                after[new] = after.get(new, 0.0) + chance / 2
        while least <= people and votes(least, people - least).low <= 0:
            least += 1
        out = {wins for wins in after if wins >= least or people - wins >= least}
        wrong += sum(after[wins] for wins in out)
        inside = {wins: chance for wins, chance in after.items() if wins not in out}
    assert 0.02 < wrong < 0.05
    once = binom.sf(44, 60, 0.5) * 2
    assert once < votes(45, 15).p < 0.05


def shown_and_used(rng, people, days, chance):
    """Interleaved lists of people on some days and what they used of them, by the chance of each place and item."""
    rows = []
    for person in range(people):
        control, treatment = rng.permutation(12)[:8].tolist(), rng.permutation(12)[:8].tolist()
        for day in range(days):
            found = interleave(control, treatment, 6, coin(str(rng.random())))
            used = rng.random(6) < chance(person, np.array(found.items))
            rows += [(person, day, found.credits.get(item, 0.0)) for item in np.array(found.items)[used].tolist()]
    return rows


def ever(people, rows, days):
    """The preferences at the end of each day."""
    return [preference(of_rows(people, [row for row in rows if row[1] <= day])) for day in range(days)]


def alarms(found):
    return any(one.p < 0.05 for one in found)


def test_people_who_go_by_places_prefer_no_arm_at_any_look():
    """However places attract; some click on all that they see of a list, some every day."""
    rng = np.random.default_rng(5)
    steep, busy = 0.6 ** np.arange(6), rng.random(40) < 0.2
    wrong = 0
    for _ in range(RUNS // 10):
        rows = shown_and_used(rng, 40, 5, lambda person, items: steep * (1.0 if busy[person] else 0.15))
        wrong += alarms(ever(40, rows, 5))
    assert wrong <= binom.ppf(0.999, RUNS // 10, 0.05)


def test_tastes_of_people_who_come_often_do_not_count_for_more_people():
    """Half of the people always prefer one arm and half the other; votes as units would find a preference."""
    rng = np.random.default_rng(6)
    wrong = alone = 0
    for _ in range(RUNS // 2):
        side, visits, first = rng.choice([-1.0, 1.0], 60), rng.geometric(0.05, 60), rng.integers(0, 20, 60)
        rows = np.array([(n, day, side[n]) for n in range(60) for day in range(first[n], first[n] + visits[n])])
        wrong += alarms([preference(of_rows(60, rows[rows[:, 1] <= day])) for day in (5, 10, 15, 20, 40)])
        total, count = abs(rows[:, 2].sum()), len(rows)
        alone += 2 * binom.sf((count + total) / 2 - 1, count, 0.5) < 0.05
    assert wrong <= binom.ppf(0.999, RUNS // 2, 0.05)
    assert alone > 0.2 * RUNS


def test_people_who_come_again_tell_more():
    """A weak preference of 150 people: of one day each it is not seen, of twenty days it is."""
    rng = np.random.default_rng(8)
    rows = np.array([(n, day, 1.0 if rng.random() < 0.55 else -1.0) for n in range(150) for day in range(20)])
    assert preference(of_rows(150, rows)).low > 0
    assert preference(of_rows(150, rows[rows[:, 1] < 1])).low < 0


def test_a_better_list_is_found():
    """Items below 4 are what people want; one arm has them first."""
    rng = np.random.default_rng(7)
    rows = []
    for person in range(150):
        control, treatment = rng.permutation(12)[:8].tolist(), [0, 1, 2, 3, *(4 + rng.permutation(8)[:4]).tolist()]
        found = interleave(control, treatment, 6, coin(str(person)))
        used = [item for item in found.items if rng.random() < (0.2 if item < 4 else 0.05)]
        rows += [(person, 0, found.credits.get(item, 0.0)) for item in used]
    found = preference(of_rows(150, rows))
    assert found.low > 0
    assert found.p < 0.01
    other = preference(of_rows(150, [(person, day, -credit) for person, day, credit in rows]))
    assert (other.wins, other.losses, other.high) == (found.losses, found.wins, pytest.approx(-found.low))


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def a_list(request, unit, **teams):
    return {"request_id": request, "unit": unit, "at": MICROS, "teams": json.dumps(teams)}


def lists_of(*rows):
    columns = {"request_id": pa.string(), "unit": pa.string(), "at": pa.int64(), "teams": pa.string()}
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(columns.items())))


def done(number, kind, item, request, after=timedelta(hours=1), **who):
    told = {"event_id": f"e{number}", "event": kind, "item_id": item, "recommendation_id": request}
    return told | {"timestamp": (THEN + after).isoformat()} | (who or {"user_id": "anna"})


def read(workspace, events, lists, primary, hours=30 * 24, compact=False):
    log = EventLog(workspace)
    appended = log.append(list(enumerate(events, 1)))
    assert not appended.refused, appended.refusals
    if compact:
        log.compact(today=MICROS // DAY + 60)
    log.close()
    with opened(workspace) as state:
        return credits(state, lists, MICROS + hours * HOUR, primary)


@pytest.mark.parametrize("compact", [False, True])
def test_what_people_used_is_credited_by_the_id_of_the_recommendation(workspace, compact):
    lists = lists_of(
        a_list("r1", "anna", a=-1.5, b=1.5), a_list("r2", "@session:s", c=0.5, d=-0.5), a_list("r3", "carl", a=1.0)
    )
    day = timedelta(days=1)
    events = [
        done(1, "click", "a", "r1"),
        done(2, "view", "b", "r1"),
        done(3, "click", "a", "r1"),  # again
        done(4, "purchase", "b", "r1", 3 * day) | {"value": 20.0},  # of looks it is not the first day
        done(5, "click", "x", "r1"),  # for which the arms did not contend
        done(6, "click", "b", "r1", 8 * day),  # too late
        done(7, "click", "b", "r1", user_id="carl"),  # of somebody else
        done(8, "click", "a", "r3", user_id="carl", after=timedelta(minutes=-30)),  # clocks differ
        done(9, "add_to_cart", "c", "r2", session_id="s"),
        {"event_id": "i", "event": "identify", "session_id": "s", "user_id": "ben", "timestamp": THEN.isoformat()},
        done(10, "purchase", "c", "r2", 4 * day, user_id="ben"),
        done(11, "click", "d", None, user_id="ben"),
    ]
    today = MICROS // DAY
    found = {}
    for primary, own in (("clicks", events), ("conversion", []), ("revenue", [])):
        got = read(workspace, own, lists, primary, compact=compact)
        assert got.people == 3
        rows = zip(got.person.tolist(), (got.day - today).tolist(), got.credit.tolist(), strict=True)
        found[primary] = sorted(rows)
    assert found["clicks"] == [(0, 0, -1.5), (0, 0, 1.5), (1, 0, 0.5), (2, 0, 1.0)]
    assert found["conversion"] == [(0, 3, 1.5), (1, 0, 0.125)]
    assert found["revenue"] == [(0, 3, 30.0)]


def test_a_purchase_without_a_value_brings_the_price_of_its_item(workspace):
    lists = lists_of(a_list("r1", "anna", a=-1.0, b=1.0))
    events = [done(1, "purchase", "a", "r1") | {"quantity": 3}, done(2, "purchase", "b", "r1") | {"value": 5.0}]
    prices = ItemPrices(IdMap(["a", "b"]), np.array([2.0, 100.0]))
    assert read(workspace, events, lists, "revenue").credit.tolist() == [5.0]
    with opened(workspace) as state:
        assert credits(state, lists, MICROS + 2 * DAY, "revenue", prices).credit.tolist() == [-6.0, 5.0]


def test_days_that_are_not_over_do_not_count_yet(workspace):
    lists, events = lists_of(a_list("r1", "anna", a=-1.5, b=1.5)), [done(1, "click", "a", "r1")]
    assert not len(read(workspace, events, lists, "clicks", hours=11).credit)
    assert len(read(workspace, [], lists, "clicks", hours=12).credit) == 1


def test_lists_on_record_are_read_as_they_were_made(workspace):
    """From two lists to the verdict, by the store of experiments and the event log."""
    found = interleave("abcd", "xbya", 4, "treatment")
    experiment = Experiment("autumn", Arm(), Arm(options={"diversity": 0.5}))
    with ExperimentStore(workspace, make=True) as store:
        store.start(experiment, "interleaving", MICROS)
        store.record_lists("autumn", [("r1", "anna", MICROS, found.credits), ("r2", "ben", MICROS, {})])
        lists = store.lists("autumn")
    read(workspace, [done(1, "click", "x", "r1"), done(2, "click", "d", "r2", user_id="ben")], lists, "clicks")
    seen = preference(read(workspace, [], lists, "clicks"))
    assert (seen.wins, seen.losses, seen.people) == (1, 0, 1)


def test_without_a_log_and_without_lists_there_are_no_credits(workspace):
    same = lists_of(a_list("r1", "anna"))
    assert credits(None, lists_of(a_list("r1", "anna", a=1.0)), MICROS, "clicks").people == 1
    assert read(workspace, [done(1, "click", "a", "r1")], same, "clicks").people == 0
