"""Days in the demo shop without an index: what people do with lists, and what changes in the shop."""

import time

import numpy as np
import pytest

from molar_retrieval.data.demo import plan_shop
from molar_retrieval.data.demo.traffic import DAY, ShopVisit, TrafficSimulator
from molar_retrieval.data.event_parsing import parse_event

START = 1_737_849_600
DAYS = 6


@pytest.fixture
def life():
    return TrafficSimulator(plan_shop(7, items=120, users=100), START, DAYS, 3)


def lists(life, user, best):
    """Ten ids of what somebody likes best, or least."""
    order = np.argsort(-life.chances(user), kind="stable")
    there = [row for row in order.tolist() if life.chances(user)[row] > 0]
    return {life.shop.items[row].item_id: 1.0 for row in (there[:10] if best else there[-10:])}


def through(life):
    """All events of some days, everybody being shown what they like best."""
    events, bought = [], []
    for day in range(DAYS):
        events += life.morning(day)
        for visit in life.visits(day):
            done = life.visit(visit, lists(life, visit.user, best=True), f"r{visit.user}-{visit.at}")
            events += done.events
            bought += [(visit.user, item_id) for item_id in (*done.of_list, *done.besides)]
    return events, bought


def test_the_event_log_takes_everything_and_each_once(life):
    events, bought = through(life)
    now = int(time.time() * 1e6)
    assert sum(len(parse_event(event, now)) for event in events) > len(events)
    assert len({event["event_id"] for event in events}) == len(events)
    assert sum(event["event"] == "purchase" for event in events) == len(bought) == len(set(bought)) > 0
    days = {event["timestamp"][:10] for event in events}
    assert len(days) == DAYS
    again = TrafficSimulator(life.shop, START, DAYS, 3)
    assert through(again)[0] == events


def test_people_react_to_what_they_are_shown(life):
    visits = [visit for day in range(DAYS) for visit in life.visits(day)]
    clicks = {True: 0, False: 0}
    for best in clicks:
        own = TrafficSimulator(life.shop, START, DAYS, 3)
        for visit in visits:
            done = own.visit(visit, lists(own, visit.user, best), "r")
            clicks[best] += sum(event["event"] == "click" for event in done.events)
    assert clicks[True] > 3 * clicks[False]


def test_the_first_places_are_looked_at_most(life):
    places = []
    for n in range(400):
        own = lists(life, n % 100, best=True)
        done = life.visit(ShopVisit(n % 100, START + n), own, "r")
        places += [event["position"] for event in done.events if event["event"] == "click"]
    assert sum(place <= 5 for place in places) > 1.3 * sum(place > 5 for place in places)


def test_items_arrive_and_sell_out_and_come_back(life):
    cold = {item.item_id for item in life.shop.items if item.cold}
    assert not any(life.available[life.rows[item_id]] for item_id in cold)
    events, _ = through(life)
    assert set(life.arrived) == cold
    changes = [event for event in events if event["event"] == "item_upsert"]
    arrivals = {event["item_id"]: event["data"] for event in changes if "title" in event["data"]}
    assert set(arrivals) == cold
    assert {"category", "price"} <= set(next(iter(arrivals.values())))
    stock = [
        (event["item_id"], event["data"]["stock"], event["timestamp"]) for event in changes if "stock" in event["data"]
    ]
    gone = [one for one in stock if one[1] == 0]
    assert gone
    assert all(
        any(b[0] == a[0] and b[1] > 0 for b in stock) or a[2] >= f"{np.datetime64(START + (DAYS - 2) * DAY, 's')}"
        for a in gone
    )
