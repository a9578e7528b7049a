"""What a generation answered once comes again, whatever came since: events, rules, another generation."""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from updates import Days, another_generation

from molar_indexes.recommender import as_it_was
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.ranking.results import made_at
from molar_retrieval.workspace.config_files import read_toml

FORMER = """
[[rule]]
boost = 'price > 40'
by = 0.4

[[rule]]
fresh = "released"
by = 0.9
half_life_days = 500
"""


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    return Days(trained, tmp_path_factory.mktemp("as_it_was"))


def questions(recommender, users):
    """Answers to several people, as a shop's pages ask."""
    for user in users:
        yield recommender.query(user, k=10, explain=True, fallback="popular")
    yield recommender.query(None, k=10, anonymous_id="visitor", explain=True, fallback="popular")
    yield recommender.query(users[0], k=6, where="price < 60", diversity=0.3, filter_seen=False)
    yield recommender.query(session=["SKU-0003", "SKU-0009"], k=5, explain=True)
    yield recommender.similar("SKU-0003", k=8)


def told(answer):
    """All of an answer but its id and the time that it took."""
    found = answer.to_dict()
    del found["request_id"], found["timings_ms"]
    return found


def append(days, *events):
    report = days.shop.events.append(
        {"event_id": f"e{time.time_ns()}{n}", "timestamp": time.time(), **event} for n, event in enumerate(events)
    )
    assert not report.refused, report.refusals


def test_answers_come_again_to_the_last_digit(days):
    rules = days.folder.parent / "rules.toml"
    rules.write_text(FORMER, "utf-8")
    append(
        days,
        {"event": "view", "session_id": "visitor", "item_id": "SKU-0004"},
        {"event": "item_withdraw", "item_id": "SKU-0007"},
    )
    with days.shop.recommender(rules=rules) as recommender:
        users = [user.user_id for user in recommender.generation.users.between(0, 3)] + ["nobody"]
        append(days, {"event": "purchase", "user_id": users[1], "item_id": "SKU-0012", "transaction_id": "o1"})
        before = [(answer, read_toml(rules)) for answer in questions(recommender, users)]
        generation, listed = before[0][0].generation, before[0][0].items
        append(
            days,
            {"event": "purchase", "user_id": users[0], "item_id": listed[0].item_id},
            {"event": "identify", "session_id": "visitor", "user_id": users[2]},
            {"event": "return", "user_id": users[1], "transaction_id": "o1"},
            {"event": "item_withdraw", "item_id": listed[1].item_id},
            {"event": "item_upsert", "item_id": listed[2].item_id, "data": {"price": 1.0, "in_stock": False}},
            {"event": "item_upsert", "item_id": "SKU-0007", "data": {"price": 9.0}},
        )
        rules.write_text("[[rule]]\nban = 'price > 20'\n", "utf-8")
        changed = [told(answer) for answer in questions(recommender, users)]
        assert all(told(answer)["items"] != now["items"] for (answer, _), now in zip(before, changed, strict=True))
    another_generation(days.workspace)
    days.shop.events.compact()
    with days.shop.recommender() as live, days.shop.recommender(generation=generation) as former:
        assert live.generation.name != generation
        for number, (answer, held) in enumerate(before):
            at = datetime.fromtimestamp(made_at(answer.request_id), UTC)
            with as_it_was(former, answer.events, at, held) as past:
                again = next(islice(questions(past, users), number, None))
            assert told(again) == told(answer)
            assert made_at(again.request_id) == made_at(answer.request_id)
        assert former.query(users[1], k=1).generation == generation, "it is open still"


def test_the_last_event_of_a_moment_is_known_by_when_it_came(days):
    began = datetime.now(UTC)
    append(days, {"event": "view", "user_id": "late", "item_id": "SKU-0004", "timestamp": began - timedelta(days=3)})
    with closing(EventLogReader(days.workspace)) as log:
        assert log.mark is not None
        micros = int(began.timestamp() * 1e6)
        last = log.last
        assert log.last_by(int(time.time() * 1e6)) == last
        assert log.last_by(micros) == last - 1
        assert log.last_by(0) == 0


def test_an_answer_says_for_which_moment_it_was_made(days):
    with days.shop.recommender() as recommender:
        recommender.now = datetime(2026, 5, 1, 12, 30, 15, 250_000, tzinfo=UTC)
        assert made_at(recommender.popular(k=3).request_id) == recommender.now.timestamp()
        recommender.now = None
        before = int(time.time() * 1000)
        made = made_at(recommender.popular(k=3).request_id)
        assert before <= round(1000 * made) <= time.time() * 1000
