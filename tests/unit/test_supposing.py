"""What a list would be by another history, and what each item of the history does for a score."""

from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest
from copies import copy_workspace

from molar_indexes.inspection import LATEST, Supposition, list_if, origins_of, person_of
from molar_indexes.recommender import Recommender
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.errors import RequestError
from molar_retrieval.privacy.pseudonyms import session_key
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace

NOW = 1_790_000_000
QUERY = Query(k=10, explain=True)


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("supposing") / ".molar"
    copy_workspace(trained.workspace, folder)
    return Workspace.open(folder)


@pytest.fixture(scope="module")
def add(workspace):
    with closing(EventLog(workspace)) as log:
        count = iter(range(1_000_000))

        def append(item, at=NOW, **who):
            event = {"event_id": f"e{next(count)}", "event": "purchase", "item_id": item, "timestamp": at, **who}
            assert log.append([(1, event)]).accepted == 1

        yield append


@pytest.fixture
def recommender(workspace):
    with Recommender.open(workspace.root) as opened:
        opened.now = datetime.fromtimestamp(NOW, UTC)
        yield opened


def told(answer):
    return [(item.item_id, item.score, dict(item.parts), item.reasons, item.propensity) for item in answer.items]


def history_of(recommender, key):
    return [item for item, _ in person_of(recommender, key).history]


def test_where_nothing_is_supposed_the_list_is_that_of_now(recommender, add):
    add("SKU-0003", user_id="u0031")
    add("SKU-0004", session_id="visitor")
    users = [user.user_id for user in recommender.generation.users.between(0, 20)]
    for user in [*users, "u0031"]:
        now = recommender.query(user, k=10, explain=True, fallback="popular")
        same = list_if(recommender, user, Supposition(without=["SKU-9999"]), QUERY)
        assert told(same) == told(now)
        assert (same.user_id, same.basis, same.events) == (user, now.basis, now.events)
    now = recommender.query(None, k=10, anonymous_id="visitor", explain=True)
    same = list_if(recommender, session_key("visitor"), Supposition(), QUERY)
    assert told(same) == told(now)
    assert same.user_id is None


def test_without_the_last_thing_the_list_is_that_of_before_it(recommender, add, trained):
    user = trained.user
    add("SKU-0011", NOW - 40, user_id=user)
    before = recommender.query(user, k=10, explain=True)
    item = before.items[2].item_id
    add(item, NOW - 30, user_id=user)
    after = recommender.query(user, k=10, explain=True)
    assert told(after) != told(before)
    assert item not in [one.item_id for one in after.items]
    assert told(list_if(recommender, user, Supposition(without=[item]), QUERY)) == told(before)
    assert told(recommender.query(user, k=10, explain=True)) == told(after), "nothing was written"


def test_the_times_of_what_stays_are_those_that_it_has(recommender, trained):
    user = trained.user
    times = dict(person_of(recommender, user).history)
    gone = history_of(recommender, user)[0]
    with recommender.answering() as answerer:
        read = []
        reader, answerer._reader = answerer._reader, lambda rows, at: read.append(at) or reader(rows, at)
        list_if(recommender, user, Supposition(without=[gone]), QUERY)
        answerer._reader = reader
    assert len(set(read[0])) > 1
    assert read[0] == [time for item, time in person_of(recommender, user).history if item != gone]
    assert times


def test_what_somebody_would_take_is_what_then_comes_of_it(recommender, add):
    for who, key in (({"user_id": "u0012"}, "u0012"), ({"session_id": "new"}, session_key("new"))):
        item = list_if(recommender, key, Supposition(), QUERY).items[0].item_id
        supposed = list_if(recommender, key, Supposition(taking=[item]), QUERY)
        assert item not in [one.item_id for one in supposed.items]
        add(item, NOW, **who)
        kinds = {"user_id": who.get("user_id"), "anonymous_id": who.get("session_id")}
        assert told(recommender.query(k=10, explain=True, **kinds)) == told(supposed)


def test_of_whom_nothing_is_left_the_list_is_the_popular_one(recommender, trained):
    supposed = Supposition(without=history_of(recommender, trained.user))
    assert list_if(recommender, trained.user, supposed, QUERY).basis == "popularity"
    assert list_if(recommender, "nobody at all", Supposition(), QUERY).basis == "popularity"
    assert origins_of(recommender, trained.user, ["SKU-0001"], supposed) == ()


def test_an_item_that_nobody_can_take_is_refused(recommender, trained):
    with pytest.raises(RequestError, match="unknown"):
        list_if(recommender, trained.user, Supposition(taking=["SKU-99999"]), QUERY)
    with pytest.raises(RequestError):
        Supposition(without=[7])


def test_what_a_score_loses_is_the_difference_of_two_lists(recommender, trained):
    user = trained.user
    query = Query(k=100, rerank=False, explore=False, filter_seen=False)
    now = list_if(recommender, user, Supposition(), query)
    known = [item for item in now.items if "cold_start" not in item.parts]
    origins = origins_of(recommender, user, [item.item_id for item in known])
    assert [one.item_id for one in origins] == [item.item_id for item in known]
    gone = origins[0].history[0].item_id
    there = {item.item_id: item for item in list_if(recommender, user, Supposition(without=[gone]), query).items}
    for item, one in zip(known, origins, strict=True):
        for name, value in one.parts.items():
            assert value == pytest.approx(item.parts[name], abs=1e-4)
        weight = next(weight for weight in one.history if weight.item_id == gone)
        for name, loss in weight.loss.items():
            assert item.parts[name] - there[item.item_id].parts[name] == pytest.approx(loss, abs=1e-4)
        assert weight.total == sum(weight.loss.values())


def test_what_counting_parts_add_adds_up(recommender):
    counting = set(recommender.ranker.store.sparse_parts)
    assert counting
    some = 0
    for user in recommender.generation.users.between(0, 12):
        listed = [item.item_id for item in recommender.query(user.user_id, k=10, explore=False).items]
        for one in origins_of(recommender, user.user_id, listed):
            told = [weight.addend for weight in one.history if weight.addend is not None]
            some += len(told)
            assert sum(told) + one.untold == pytest.approx(sum(one.parts[name] for name in counting), abs=1e-6)
            totals = [weight.total for weight in one.history]
            assert totals == sorted(totals, reverse=True)
            assert len(totals) + one.left_out == len(set(user.history))
            assert len(totals) <= LATEST
    assert some, "no pair of items was had by five people"


def test_an_item_that_was_taken_twice_goes_as_a_whole(recommender, add):
    add("SKU-0005", NOW - 9, user_id="u0040")
    add("SKU-0005", NOW - 5, user_id="u0040")
    answer = recommender.query("u0040", k=3)
    (one, *_) = origins_of(recommender, "u0040", [item.item_id for item in answer.items])
    weight = next(weight for weight in one.history if weight.item_id == "SKU-0005")
    assert weight.times == np.sum([item == "SKU-0005" for item in history_of(recommender, "u0040")]) >= 2
    rest = Supposition(without=["SKU-0005"])
    (less, *_) = origins_of(recommender, "u0040", [one.item_id], rest)
    assert weight.loss == pytest.approx({name: one.parts[name] - less.parts[name] for name in one.parts}, abs=1e-6)
