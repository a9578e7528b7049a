"""The event log in figures by day: who came, what lists showed, and what of what people did is attributed to these."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molar_eval.kpi import by_day
from molar_eval.kpi.by_day import (
    ArmFigures,
    DayFigures,
    ItemsTaken,
    Outcomes,
    PlacementFigures,
    daily,
    exposure,
    items_taken,
    totals_by_item,
)
from molar_eval.statistics import difference_of_shares, share_interval
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace.artefacts import Workspace

DAY = 20_000  # days since 1970
HOUR = 3_600


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")


def event(kind: str, name: str, day: int = DAY, hour: float = 10, **more: Any) -> dict[str, Any]:
    who = {} if "session_id" in more else {"user_id": "anna"}
    return {"event": kind, "event_id": name, "timestamp": day * 86_400 + round(hour * HOUR), **who, **more}


def shown(name: str, *items: str, day: int = DAY, **more: Any) -> dict[str, Any]:
    return event("impression", f"shown {name}", day, 9, items=list(items), request_id=name, **more)


def append(workspace: Workspace, *events: dict[str, Any]) -> None:
    with closing(EventLog(workspace)) as log:
        done = log.append(enumerate(events))
    assert not done.refused, done.refusals


def seal(workspace: Workspace, today: int) -> None:
    with closing(EventLog(workspace)) as log:
        log.compact(today=today)


def figures(workspace: Workspace, day: int = DAY) -> DayFigures:
    return daily(workspace, 1, day)[0].figures


def test_what_is_attributed_names_the_list_that_showed_this_item_to_this_person(workspace: Workspace) -> None:
    append(
        workspace,
        shown("home", "a", "b", list_id="front"),
        shown("home", "a", list_id="front") | {"event_id": "told twice"},
        shown("cart", "c", user_id="bo"),
        event("click", "1", item_id="a", request_id="home"),
        event("purchase", "2", item_id="b", request_id="home", value=20.0),
        event("purchase", "no list", item_id="a", value=7.0),
        event("view", "another item", item_id="c", request_id="home"),
        event("view", "another person", item_id="a", request_id="home", user_id="bo"),
        event("purchase", "no value", item_id="c", request_id="unknown", session_id="s"),
        event("return", "back", item_id="a"),
        event("click", "before it was shown", item_id="c", request_id="cart", user_id="bo", hour=7.9),
        event("add_to_cart", "clocks differ", item_id="c", request_id="cart", user_id="bo", hour=8.1),
    )
    assert figures(workspace) == DayFigures(
        DAY,
        people=3,
        buyers=2,
        everything=Outcomes(looks=4, carts=1, purchases=3, revenue=27.0, priced=2),
        returns=1,
        placements={
            "": PlacementFigures(lists=1, places=1, used=1, attributed=Outcomes(carts=1)),
            "front": PlacementFigures(1, 2, 1, Outcomes(looks=1, purchases=1, revenue=20.0, priced=1)),
        },
    )


@pytest.mark.parametrize(("days", "counts"), [(0, True), (7, True), (8, False)])
def test_a_list_explains_what_is_done_within_seven_days(workspace: Workspace, days: int, counts: bool) -> None:
    append(workspace, shown("home", "a", list_id="front", day=DAY - days))
    append(workspace, event("purchase", "1", item_id="a", request_id="home", value=5, hour=8.5 if days else 10))
    for _ in range(2):  # in the database, then sealed
        found = figures(workspace)
        assert found.shown.attributed.purchases == int(counts)
        assert found.shown.used == (days == 0)
        seal(workspace, DAY + 1)


def test_somebody_is_one_person_from_the_day_on_which_a_session_says_who_it_is(workspace: Workspace) -> None:
    append(workspace, event("view", "1", item_id="a", session_id="s"), event("view", "2", item_id="a"))
    append(
        workspace, event("view", "3", DAY + 1, item_id="a", session_id="s"), event("view", "4", DAY + 1, item_id="a")
    )
    append(workspace, event("identify", "5", DAY + 1, user_id="anna", session_id="s"))
    assert [one.figures.people for one in daily(workspace, 3, DAY + 2)] == [2, 1, 0]


def test_arms_compare_people_and_who_has_two_is_in_none(workspace: Workspace) -> None:
    append(
        workspace,
        event("view", "1", item_id="a", arm="holdout"),
        event("purchase", "2", item_id="a", value=9),
        event("view", "3", item_id="a", user_id="bo", arm="molar"),
        event("view", "4", item_id="a", user_id="cy", arm="molar"),
        event("view", "5", item_id="a", user_id="cy", arm="holdout"),
    )
    assert figures(workspace).arms == {"holdout": ArmFigures(1, 1, 1, 9.0), "molar": ArmFigures(1)}


def random_events(seed: int) -> Iterator[dict[str, Any]]:
    drawn = np.random.default_rng(seed)
    for number in range(400):
        person = (
            {"user_id": f"u{drawn.integers(3)}"} if drawn.random() < 0.7 else {"session_id": f"s{drawn.integers(3)}"}
        )
        kind = drawn.choice(["impression", "click", "view", "add_to_cart", "purchase", "return", "search"])
        request = {"request_id": f"r{drawn.integers(20)}"} if drawn.random() < 0.8 else {}
        item = {} if kind == "search" else {"item_id": f"i{drawn.integers(2)}"}
        arm = {"arm": str(drawn.choice(["holdout", "molar"]))} if drawn.random() < 0.3 else {}
        day = DAY + int(drawn.integers(12))
        yield event(str(kind), f"{seed} {number}", day, float(drawn.uniform(0, 23)), **person, **request, **item, **arm)
    yield event("identify", f"{seed} who", DAY + 3, user_id="u1", session_id="s1")


def plainly(workspace: Workspace, day: int) -> tuple[int, int, int]:
    """People, lists and attributed purchases of a day, told line by line."""
    with closing(EventLog(workspace)) as log:
        lines = sorted(log.table().to_pylist(), key=lambda line: (line["timestamp"], line["seq"]))
    micros = [int(line["timestamp"].timestamp() * 1_000_000) for line in lines]
    own = "s1" if day >= DAY + 3 else None
    who = [line["user_id"] or ("u1" if line["session_id"] == own else "@" + line["session_id"]) for line in lines]
    today = [n for n, line in enumerate(lines) if micros[n] // (86_400_000_000) == day and line["event"] != "identify"]
    lists = {lines[n]["request_id"] or lines[n]["event_id"] for n in today if lines[n]["event"] == "impression"}
    attributed = 0
    for n in today:
        if lines[n]["event"] == "purchase" and lines[n]["request_id"]:
            same = [
                m
                for m, line in enumerate(lines)
                if line["event"] == "impression" and who[m] == who[n] and micros[m] // 86_400_000_000 <= day
                and (line["request_id"], line["item_id"]) == (lines[n]["request_id"], lines[n]["item_id"])
            ]  # fmt: skip
            # of each day, the first one tells when it was shown
            firsts = {micros[m] // 86_400_000_000: micros[m] for m in reversed(same)}
            attributed += any(-HOUR * 1e6 <= micros[n] - moment <= 7 * 86_400e6 for moment in firsts.values())
    return len({who[n] for n in today}), len(lists), attributed


@pytest.mark.parametrize("seed", [1])
def test_what_is_kept_of_sealed_days_is_what_the_log_says(
    workspace: Workspace, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(workspace, *random_events(seed))
    open_ = daily(workspace, 12, DAY + 11)
    plain = [plainly(workspace, day) for day in range(DAY, DAY + 12)]
    assert [(f.people, f.shown.lists, f.shown.attributed.purchases) for f in (one.figures for one in open_)] == plain
    assert sum(attributed for *_, attributed in plain) > 1
    seal(workspace, DAY + 12)
    sealed = daily(workspace, 12, DAY + 11)
    assert sealed == open_
    with monkeypatch.context() as patch:
        patch.setattr(by_day, "day_facts", None)  # nothing is made anew
        assert daily(workspace, 12, DAY + 11) == open_
    kept = sorted((workspace.root / "events" / "figures").iterdir())
    assert len(kept) == 12
    kept[0].unlink()
    kept[1].write_bytes(b"damaged")
    assert daily(workspace, 12, DAY + 11) == open_
    append(workspace, event("view", "late", DAY + 2, item_id="i1", user_id="late"))
    late = daily(workspace, 12, DAY + 11)
    assert late[2].figures.people == open_[2].figures.people + 1
    seal(workspace, DAY + 12)
    assert daily(workspace, 12, DAY + 11) == late


def test_days_that_the_log_keeps_no_more_have_no_figures(workspace: Workspace) -> None:
    append(workspace, event("view", "1", item_id="a"), event("view", "2", DAY + 9, item_id="a"))
    seal(workspace, DAY + 10)
    assert [one.figures.people for one in daily(workspace, 10, DAY + 9)] == [1, *[0] * 8, 1]
    with closing(EventLog(workspace)) as log:
        log.compact(5, today=DAY + 10)
    assert daily(workspace, 10, DAY + 9)[0].figures == DayFigures(DAY)
    assert [path.stem for path in (workspace.root / "events" / "figures").iterdir()] == ["2024-10-13"]
    assert figures(workspace, DAY + 9).people == 1


def test_without_a_log_days_are_empty(workspace: Workspace) -> None:
    assert [one.figures for one in daily(workspace, 2, DAY)] == [DayFigures(DAY - 1), DayFigures(DAY)]
    assert items_taken(workspace) is None
    assert DayFigures(DAY).date.isoformat() == "2024-10-04"


def test_days_add_up(workspace: Workspace) -> None:
    append(workspace, *random_events(3))
    days = [one.figures for one in daily(workspace, 12, DAY + 11)]
    whole = DayFigures.total(days)
    assert whole.day == DAY
    assert whole.people == sum(day.people for day in days)
    assert whole.shown.places == sum(day.shown.places for day in days)
    assert whole.arms["molar"].people == sum(day.arms.get("molar", ArmFigures()).people for day in days)
    assert DayFigures.of_dict(whole.to_dict()) == whole
    assert DayFigures.total([]) == DayFigures(0)


def test_exposure_counts_new_items_and_how_evenly_places_went(workspace: Workspace) -> None:
    append(workspace, shown("1", "a", "b", "gone"), shown("2", "a", "new", day=DAY + 1))
    append(workspace, event("purchase", "3", DAY + 1, item_id="a", value=4))
    days = daily(workspace, 2, DAY + 1)
    first = np.array([DAY - 5, DAY, 2**31 - 1, 0], np.int32)  # b is taken on the day on which it is shown
    found = exposure(days, ItemsTaken(IdMap(["a", "b", "new", "never shown"]), first))
    assert (found.items, found.shown, found.places, found.new_places) == (4, 3, 4, 2)
    assert found.gini == pytest.approx((-3 * 0 - 1 * 1 + 1 * 1 + 3 * 2) / (4 * 4))
    assert exposure([], ItemsTaken(IdMap(["a"]), first[:1])).gini is None
    totals = {row["item_id"]: row for row in totals_by_item(days).to_pylist()}
    assert totals["a"] == {"item_id": "a", "places": 2, "looks": 0, "carts": 0, "purchases": 1, "revenue": 4.0}
    assert len(totals_by_item([])) == 0


def test_intervals_of_shares_are_those_of_their_authors() -> None:
    found = share_interval(81, 263)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)  # Newcombe 1998, table I
    assert share_interval(0, 0) is None
    none = share_interval(0, 20)
    assert none is not None
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)
    gap = difference_of_shares((56, 70), (48, 80))
    assert gap is not None
    assert (round(gap.low, 4), round(gap.high, 4)) == (0.0524, 0.3339)  # Newcombe 1998, table II (a), method 10
    assert difference_of_shares((1, 2), (0, 0)) is None
    with pytest.raises(ValueError, match="part"):
        share_interval(3, 2)
