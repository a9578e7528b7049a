"""People of an experiment: who is compared, and what the event log says that they did."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from molar_eval.experiments.exposure import (
    NEVER,
    ItemPrices,
    Observed,
    Population,
    in_stage,
    lines_of_people,
    observe,
    population,
    shares,
    told_elsewhere,
)
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.event_log_reader import EventLogSnapshot, opened
from molar_retrieval.experiments.assignment import bucket
from molar_retrieval.experiments.definition import Experiment
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace.artefacts import Workspace

SECOND = 1_000_000
DAY = 86_400 * SECOND
BEGUN = 20_000 * DAY
UNTIL = BEGUN + 7 * DAY


def unit(name: str, arm: str, first: float = 0, triggered: float | None = 0, **more: Any) -> dict[str, Any]:
    met = None if triggered is None else BEGUN + int(triggered * DAY)
    row = {"unit": name, "arm": arm, "first": BEGUN + int(first * DAY), "triggered": met}
    return {**row, "both": False, "source": "hash", **more}


def table(*rows: dict[str, Any]) -> pa.Table:
    kinds = {"unit": pa.string(), "arm": pa.string(), "first": pa.int64(), "triggered": pa.int64()}
    return pa.Table.from_pylist(list(rows), pa.schema({**kinds, "both": pa.bool_(), "source": pa.string()}))


def arms(people: Population) -> dict[str, bool]:
    return dict(zip(people.keys.array.to_pylist(), people.treated.tolist(), strict=True))


def event(kind: str, who: str, day: float, **more: Any) -> dict[str, Any]:
    at = (BEGUN + round(day * DAY)) // SECOND
    return {"event": kind, "event_id": f"{kind} {who} {day} {more}", "user_id": who, "timestamp": at, **more}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def append(workspace: Workspace, *events: dict[str, Any]) -> None:
    with closing(EventLog(workspace)) as log:
        done = log.append(enumerate(events))
    assert not done.refused, done.refusals


@pytest.fixture
def anna(workspace: Workspace) -> Any:
    """Observes what anna did, who met a difference on the second day."""
    people = population(table(unit("anna", "treatment", 0, 1), unit("bo", "control")), {})

    def look(**more: Any) -> Observed:
        with opened(workspace) as state:
            assert state is not None
            return observe(people, lines_of_people(state, {}, BEGUN, UNTIL), UNTIL, **more)

    return look


def test_sessions_that_turn_out_to_be_users_are_one_person() -> None:
    units = table(
        unit("anna", "control", 3, 4),
        unit("@session:a", "control", 1, 2),
        unit("@session:b", "treatment", 1, None),  # saw nothing that differed
        unit("bo", "control"),
        unit("@session:c", "treatment"),
        unit("@session:d", "control", 2, None),
        unit("@session:e", "treatment", 1, None),
        unit("marked", "treatment", both=True),
    )
    people = population(units, {"a": "anna", "b": "anna", "c": "bo", "d": "eve", "e": "eve"})
    assert arms(people) == {"anna": False, "eve": True}
    assert people.both == 2  # bo, and who is marked
    at = people.keys.row("anna")
    assert at is not None
    assert (people.first[at], people.since[at]) == (BEGUN + DAY, BEGUN + 2 * DAY)
    assert people.since[people.keys.row("eve") or 0] == NEVER
    assert people.counts() == {"control": 1, "treatment": 1}
    assert people.counts(people.met) == {"control": 1, "treatment": 0}
    assert len(population(table(), {})) == 0


def test_events_name_the_arms_of_an_experiment_that_is_assigned_elsewhere(workspace: Workspace) -> None:
    append(
        workspace,
        event("view", "anna", 1, item_id="a", arm="red:treatment"),
        event("view", "anna", 0.5, item_id="a", arm="red:treatment"),
        event("view", "bo", 2, item_id="a", arm="red:control"),
        event("view", "both", 2, item_id="a", arm="red:control"),
        event("view", "both", 3, item_id="a", arm="red:treatment"),
        event("view", "other", 3, item_id="a", arm="blue:treatment"),
    )
    with opened(workspace) as state:
        assert state is not None
        found = told_elsewhere(lines_of_people(state, {}, BEGUN, UNTIL), "red")
    people = population(found, {})
    assert arms(people) == {"anna": True, "bo": False}
    assert people.both == 1
    assert people.since[people.keys.row("anna") or 0] == BEGUN + DAY // 2


def test_who_is_compared_depends_on_the_stage() -> None:
    experiment = Experiment("red", salt="x", treated=0.2, canary=0.05)
    names = [f"p{number}" for number in range(400)]
    draws = {name: bucket("x", name) for name in names}
    units = table(*(unit(name, "treatment" if draws[name] < 0.2 else "control") for name in names))
    everybody = population(units, {})
    later = BEGUN + DAY
    compared = in_stage(everybody, units, experiment, "ab", later, canaried=True)
    assert set(compared.keys.array.to_pylist()) == {name for name in names if 0.05 <= draws[name] < 0.95}
    assert (compared.since == later).all()
    assert shares(experiment, "ab", canaried=True) == pytest.approx((0.75, 0.15))
    assert len(in_stage(everybody, units, experiment, "ab", later, canaried=False)) == 400
    assert shares(experiment, "canary", canaried=True) == (0.5, 0.5)
    assert shares(experiment, "everybody", canaried=True) is None

    held = table(unit("held", "control", source="holdout"), unit("was control", "control", triggered=None))
    last = in_stage(population(held, {}), held, experiment, "everybody", later, canaried=True)
    assert arms(last) == {"held": False, "was control": True}
    assert (last.since == later).all()
    elsewhere = replace(experiment, assigned="elsewhere")
    told = in_stage(population(held, {}), held, elsewhere, "everybody", later, canaried=True)
    assert arms(told) == {"held": False, "was control": False}


def test_only_what_comes_after_meeting_a_difference_counts(workspace: Workspace, anna: Any) -> None:
    append(
        workspace,
        event("click", "anna", 0.5, item_id="a", request_id="r"),
        event("click", "anna", 1.5, item_id="a", request_id="r"),
        event("view", "anna", 1.6, item_id="a"),
        event("add_to_cart", "anna", 1.7, item_id="a"),
        event("purchase", "anna", 0.9, item_id="a", value=100.0),
        event("purchase", "anna", 2, item_id="a", value=10.0),
        event("purchase", "anna", 8, item_id="a", value=1000.0),
        event("purchase", "bo", 0, item_id="a", value=1.0),
        event("purchase", "stranger", 2, item_id="a", value=1.0),
    )
    found = anna()
    assert found.clicks.tolist() == [1, 0]
    assert anna(of_lists=False).clicks.tolist() == [2, 0]
    assert found.carts.tolist() == [1, 0]
    assert found.purchases.tolist() == [1, 1]
    assert found.of("conversion").tolist() == [1, 1]
    assert found.of("revenue").tolist() == [10, 1]
    assert found.seen.tolist() == [True, True]
    assert (found.ahead, found.early) == (0, 0)


def test_returns_are_taken_off_and_what_is_told_twice_counts_once(workspace: Workspace, anna: Any) -> None:
    append(
        workspace,
        event("purchase", "anna", 2, item_id="a", value=10.0),
        event("purchase", "anna", 2, item_id="a", value=10.0) | {"event_id": "told twice"},
        event("purchase", "anna", 3, items=[{"item_id": "b", "value": 5.0}, {"item_id": "c", "value": 7.0}],
              transaction_id="o1"),
        event("purchase", "anna", 4, item_id="d", value=20.0),
        event("return", "anna", 5, item_id="d"),
        event("return", "anna", 6, item_id="b", transaction_id="o1"),
        event("return", "bo", 1, item_id="a"),  # what bo bought before counts for nothing, and neither does this
    )  # fmt: skip
    found = anna()
    assert found.purchases.tolist() == [2, 0]
    assert found.of("revenue").tolist() == [17, 0]
    assert found.returns.tolist() == [2, 1]


def test_late_and_sealed_events_count_the_same(workspace: Workspace, anna: Any) -> None:
    events = [event("purchase", "anna", day, item_id="a", value=day) for day in (1.5, 2.5, 3.5)]
    append(workspace, *events[1:])
    with closing(EventLog(workspace)) as log:
        log.compact(today=BEGUN // DAY + 7)
    append(workspace, events[0], event("return", "anna", 4, item_id="a"))
    assert anna().of("revenue").tolist() == [4, 0]
    with closing(EventLog(workspace)) as log:
        log.compact(today=BEGUN // DAY + 7)
    assert anna().of("revenue").tolist() == [4, 0]


def test_a_purchase_without_a_value_has_the_price_of_its_item(workspace: Workspace, anna: Any) -> None:
    append(
        workspace,
        event("purchase", "anna", 2, item_id="a", quantity=3),
        event("purchase", "bo", 2, item_id="b"),
    )
    assert anna().revenue is None
    assert anna().unpriced == 2
    found = anna(prices=ItemPrices(IdMap(["a", "b"]), np.array([4.0, 0.0])))
    assert found.of("revenue").tolist() == [12, 0]
    assert found.unpriced == 1


def test_moments_that_cannot_be_are_counted(workspace: Workspace) -> None:
    people = population(table(unit("anna", "treatment", 3, 3)), {})
    append(
        workspace,
        event("view", "anna", 2, item_id="a", arm="red:treatment"),  # named an arm before it had one
        event("view", "anna", 4, item_id="a", arm="red:treatment"),
    )
    with opened(workspace) as state:
        assert state is not None
        found = observe(people, lines_of_people(state, {}, BEGUN, UNTIL), UNTIL)
    assert (found.lines, found.early, found.ahead) == (2, 1, 0)
    assert sum(found.hours.values()) == 2


def test_lines_come_in_pieces(workspace: Workspace) -> None:
    append(workspace, *(event("view", "anna", day, item_id="a") for day in (-2, 1, 9)))
    with opened(workspace) as state:
        assert isinstance(state, EventLogSnapshot)
        assert sum(len(part) for part in lines_of_people(state, {}, BEGUN, UNTIL)) == 1
