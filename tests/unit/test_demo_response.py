"""What is to be expected of a list in the demo shop, against what people do with it."""

import numpy as np
import pytest

from molar_retrieval.data.demo import plan_shop
from molar_retrieval.data.demo.catalogue import with_visitors
from molar_retrieval.data.demo.traffic import (
    ExpectedOutcome,
    ShopVisit,
    TrafficSimulator,
    UserBehaviour,
    expected_of,
    expected_visit,
)
from molar_retrieval.privacy.pseudonyms import of_key, session_key

START = 1_737_849_600
VISITORS = 2_000


@pytest.fixture(scope="module")
def crowd():
    return with_visitors(plan_shop(7, items=60, users=20), VISITORS)


def lists(life, user):
    """Items that somebody likes more and less, mixed."""
    order = np.argsort(-life.chances(user), kind="stable")[[0, 9, 1, 20, 2, 30, 3, 4]]
    return [life.shop.items[row].item_id for row in order.tolist()]


def test_a_visit_brings_on_average_what_is_expected_of_it(crowd):
    life = TrafficSimulator(crowd, START, 1, 3, UserBehaviour(own=0.3))
    expected, found = [], []
    for user in range(20, 20 + VISITORS):
        shown = lists(life, user)
        told = life.expected(user, shown)
        done = life.visit(ShopVisit(user, START + user), dict.fromkeys(shown, 1.0), "r")
        bought = [event["value"] for event in done.events if event["event"] == "purchase"]
        clicks = sum(event["event"] == "click" for event in done.events)
        expected.append((told.clicks, told.converted, told.revenue))
        found.append((clicks, bool(bought), sum(bought)))
    off = np.array(found) - np.array(expected)
    assert np.all(np.abs(off.mean(axis=0)) < 3 * off.std(axis=0) / np.sqrt(VISITORS))
    assert np.array(expected).mean(axis=0) == pytest.approx([1.66, 0.64, 54], rel=0.15)  # there is something to see


def test_what_is_gone_or_was_bought_before_brings_nothing(crowd):
    life = TrafficSimulator(crowd, START, 1, 3, UserBehaviour(buy=1.0, own=0.0))
    shown = lists(life, 25)
    before = life.expected(25, shown)
    life.available[life.rows[shown[0]]] = False
    gone = life.expected(25, shown)
    assert gone.clicks == before.clicks
    assert gone.revenue < before.revenue
    done = life.visit(ShopVisit(25, START), dict.fromkeys(shown[1:], 1.0), "r")
    assert done.of_list
    assert life.expected(25, done.of_list).converted == 0
    assert life.expected(25, []) == ExpectedOutcome(0.0, 0.0, 0.0)


def test_who_knows_what_everybody_buys_clicks_by_taste(crowd):
    famous = max(crowd.items, key=lambda item: item.popularity * (not item.cold)).item_id
    usual, tired = (TrafficSimulator(crowd, START, 1, 3, UserBehaviour(own=0.0, fame=fame)) for fame in (1.0, 0.0))
    often = [np.mean([one.expected(user, [famous]).clicks for user in range(20, 320)]) for one in (usual, tired)]
    assert often[1] < 0.8 * often[0]


def test_the_first_place_that_is_bought_of_makes_the_others_count_less():
    clicks, prices, there = np.array([0.5, 0.5]), np.array([10.0, 20.0]), np.ones(2, bool)
    found = expected_visit(UserBehaviour(on=0.8, buy=0.5), clicks, prices, there, (0.1, 30.0))
    assert found.clicks == pytest.approx(0.5 + 0.8 * 0.5)
    assert found.revenue == pytest.approx(0.25 * 10 + 0.8 * 0.25 * 20 + 0.1 * 30)
    assert found.converted == pytest.approx(1 - 0.75 * (1 - 0.8 * 0.25) * 0.9)


def test_visits_of_somebody_add_up():
    person = expected_of([ExpectedOutcome(1.0, 0.5, 10.0), ExpectedOutcome(0.5, 0.2, 4.0)])
    assert (person.clicks, person.revenue) == (1.5, 14.0)
    assert person.converted == pytest.approx(1 - 0.5 * 0.8)
    assert expected_of([]) == ExpectedOutcome(0.0, 0.0, 0.0)


def test_visitors_are_anonymous_and_like_what_others_like(crowd):
    strangers = crowd.users[20:]
    assert len(strangers) == VISITORS
    assert not any(one.purchases for one in strangers)
    assert strangers[0].sent == {"session_id": "v00001"}
    assert crowd.users[0].sent == {"user_id": "u0001"}
    assert of_key(session_key(strangers[0].user_id)) == ("session_id", "v00001")
    both = np.mean([one.pattern is not None and one.story is not None for one in strangers])
    assert both == pytest.approx(0.5, abs=0.01)
    events = TrafficSimulator(crowd, START, 1, 3).visit(ShopVisit(20, START), {"SKU-0001": 1.0}, "r").events
    assert all(event["session_id"] == "v00001" and "user_id" not in event for event in events if "data" not in event)
