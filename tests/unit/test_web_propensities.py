"""Propensities that impressions do not tell, found with the answers that are kept."""

import time

import pytest

from molar_retrieval.data.event_parsing import FIELDS, parse_event
from molar_retrieval.ranking.results import new_id
from molar_serving.response_store import Propensities, Shown, ShownAnswers

CHANCES = {"a": 1.0, "b": 0.25}


def kept(shown, chances=CHANCES):
    name = new_id()
    shown.keep(Shown(name, b"", None, "g", 0, list("abc"), True, propensities=chances))
    return name


def told(lines):
    return [line[FIELDS.index("propensity")] for line in lines]


def event(request, *items, kind="impression"):
    row = {"event_id": "1", "event": kind, "user_id": "anna", "timestamp": 1_700_000_000, "request_id": request}
    return parse_event(row | {"items": list(items)}, time.time_ns() // 1000)


@pytest.fixture
def shown(tmp_path):
    answers = ShownAnswers(tmp_path, 1)
    answers.start()
    yield answers
    answers.close()


def test_an_impression_has_the_propensities_of_its_list(shown):
    name, completed = kept(shown), Propensities(shown).completed
    assert told(completed(event(name, {"item_id": "a"}, {"item_id": "b"}, {"item_id": "c"}))) == [1.0, 0.25, None]
    own = {"item_id": "a", "propensity": 0.5}
    assert told(completed(event(name, own, {"item_id": "b"}))) == [0.5, None], "who tells some is not set right"
    assert told(completed(event(name, {"item_id": "a"}, kind="click"))) == [None]
    assert told(completed(event("unknown", {"item_id": "a"}))) == [None]
    assert told(completed(event(kept(shown, {}), {"item_id": "a"}))) == [None], "a search has none"
    lines = event(name, {"item_id": "a", "position": 3})
    rest = FIELDS.index("propensity") + 1
    assert completed(lines)[0][: rest - 1] == lines[0][: rest - 1]
    assert completed(lines)[0][rest:] == lines[0][rest:]


@pytest.mark.alone
def test_what_another_process_answered_just_now_is_waited_for(shown, tmp_path):
    other = ShownAnswers(tmp_path, 1)
    name = kept(shown)
    assert told(Propensities(other).completed(event(name, {"item_id": "b"}))) == [0.25]
    never, began = new_id(), time.perf_counter()
    completed = Propensities(other).completed
    for _ in range(5):
        assert told(completed(event(never, {"item_id": "b"}))) == [None]
    assert time.perf_counter() - began < 2, "one append waits a quarter of a second on the whole"
    other.close()
