"""What somebody did since the generation changes their next answer, as a generation with the same events would."""

import pickle
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace

from molar_indexes.batch import recommend
from molar_indexes.recommender import Recommender
from molar_indexes.records import sparse_rows
from molar_indexes.refresh import publish_generation
from molar_retrieval.data.event_history import EventWeights
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.errors import RequestError
from molar_retrieval.models.als import open_log
from molar_retrieval.models.store import open_model
from molar_retrieval.privacy.pseudonyms import session_key
from molar_retrieval.ranking.query import Query
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

NOW = 1_790_000_000


@pytest.fixture
def workspace(trained, tmp_path):
    folder = tmp_path / ".molar"
    copy_workspace(trained.workspace, folder)
    return Workspace.open(folder)


@pytest.fixture
def add(workspace):
    with closing(EventLog(workspace)) as log:
        count = iter(range(1_000_000))

        def append(kind, item, user=None, session=None, after=0, **more):
            event = {"event_id": f"e{next(count)}", "event": kind, "item_id": item, "timestamp": NOW + after}
            report = log.append([(1, event | {"user_id": user, "session_id": session} | more)])
            assert report.accepted == 1, report
            return report.seq

        yield append


@pytest.fixture
def recommender(workspace):
    with Recommender.open(workspace.root) as opened:
        yield opened


def ids(answer):
    return [item.item_id for item in answer.items]


def person(recommender, key):
    overlay = recommender._following.present._overlay
    return overlay.person(overlay.now(), key).record


def test_what_the_settings_say_of_kinds_counts_from_the_first_event_on(workspace, add, trained):
    """The generation was made without any, so the kinds of the default were the only ones that it knew of."""
    manifest = workspace["interactions"].require()[1]
    assert "of_events" not in manifest.facts
    prepare_interactions(workspace.catalogue, workspace, kinds=EventWeights.of({"purchase": 1.0}))
    named = workspace["generations"].current
    publish_generation(workspace, IndexSettings()).close()
    assert workspace["generations"].current == named
    with Recommender.open(workspace.root) as recommender:
        before = ids(recommender.query(trained.user, k=5))
        add("view", before[0], trained.user)
        assert ids(recommender.query(trained.user, k=5)) == before
        add("view", before[0], session="new")
        with pytest.raises(RequestError, match="new"):
            recommender.query(anonymous_id="new", fallback="error")
        add("purchase", before[0], trained.user)
        assert before[0] not in ids(recommender.query(trained.user, k=5))


def test_the_popular_list_leaves_out_what_its_person_had(recommender, add, trained):
    everybody = ids(recommender.popular(k=100))
    had = set(ids(recommender.query(trained.user, k=100, filter_seen=False))) - set(
        ids(recommender.query(trained.user, k=100))
    )
    left = ids(recommender.popular(k=100, user_id=trained.user))
    assert left == [item for item in everybody if item not in had] != everybody
    add("view", left[0], trained.user)
    add("purchase", left[1], session="cookie")
    add("impression", left[2], trained.user)
    assert ids(recommender.popular(k=100, user_id=trained.user)) == left[1:]
    assert ids(recommender.popular(k=2, anonymous_id="cookie")) == [item for item in everybody if item != left[1]][:2]
    add("identify", None, trained.user, "cookie")
    both = ids(recommender.popular(k=100, anonymous_id="cookie"))
    assert both == left[2:]
    assert ids(recommender.popular(k=100, user_id="nobody")) == everybody


@pytest.mark.parametrize("kind", ["purchase", "view"])
def test_what_somebody_did_is_hidden_and_moves_the_list(recommender, add, trained, kind):
    before = recommender.query(trained.user, k=5)
    last = add(kind, ids(before)[0], trained.user)
    after = recommender.query(trained.user, k=5)
    assert ids(before)[0] not in ids(after)
    assert after.events == last
    scores = {item.item_id: item.score for item in before.items}
    assert any(item.score != scores.get(item.item_id) for item in after.items)
    assert ids(recommender.query(trained.user, k=100, filter_seen=False)) != []
    add("impression", ids(after)[0], trained.user)
    add("search", None, trained.user)
    assert ids(recommender.query(trained.user, k=5)) == ids(after)


def test_somebody_new_has_a_list_after_the_first_event(recommender, add, trained):
    item = ids(recommender.query(trained.user))[0]
    with pytest.raises(RequestError, match="no history"):
        recommender.query("newcomer", fallback="error")
    add("view", item, "newcomer")
    recommender.now = datetime.fromtimestamp(NOW + 60, UTC)
    answer = recommender.query("newcomer", k=5)
    assert (answer.basis, len(answer.items)) == ("aligned", 5)
    assert item not in ids(answer)
    assert ids(recommender.query(session=[item], k=5)) == ids(answer)
    add("add_to_cart", item, session="tab 7")
    assert ids(recommender.query(anonymous_id="tab 7", k=5)) == ids(answer)
    with pytest.raises(RequestError, match="known of the anonymous visitor"):
        recommender.query(anonymous_id="newcomer", fallback="error")
    found = recommender.search(similar_to=item, user_id="newcomer", filter_seen=True, k=5)
    assert item not in ids(found)


def test_what_is_returned_comes_back(recommender, add, trained):
    before = recommender.query(trained.user, k=5)
    item = ids(before)[0]
    add("purchase", item, trained.user, transaction_id="T")
    assert item not in ids(recommender.query(trained.user, k=5))
    add("return", item, session="the staff's", transaction_id="T", after=1)
    assert ids(recommender.query(trained.user, k=5)) == ids(before)
    add("view", item, "somebody")
    recommender.query("somebody")
    add("purchase", item, "other")
    add("return", item, "other", after=1)
    with pytest.raises(RequestError, match="no history"):
        recommender.query("other", fallback="error")


def test_items_that_only_came_since_are_left_out_with_a_note(recommender, add, trained):
    add("view", "of tomorrow", trained.user)
    before = recommender.query(trained.user, k=5)
    assert "1 of this person's events" in before.notes[0]
    add("view", "of tomorrow", "stranger")
    answer = recommender.query("stranger", k=5, fallback="popular")
    assert answer.basis == "popularity"


def test_histories_and_vectors_are_those_that_publishing_the_same_events_gives(recommender, add, workspace, trained):
    """By the same model: everybody has the history and the vectors that the next generation would give them."""
    users = [record.user_id for record in recommender.generation.users.between(0, 12)]
    items, draw = recommender.generation.table.item_ids(), np.random.default_rng(0)
    kinds = ["purchase", "view", "add_to_cart", "return", "rating"]
    for number in range(80):
        user = [*users, "new"][draw.integers(len(users) + 1)]
        old = person(recommender, user)
        known = [] if old is None else [items[row] for row in old.history]
        item = known[draw.integers(len(known))] if known and draw.random() < 0.4 else items[draw.integers(len(items))]
        add(kinds[draw.integers(len(kinds))], item, user, after=number, value=3)
    add("view", items[3], session="alone")
    keys = [*users, "new", session_key("alone")]
    live = {key: person(recommender, key) for key in keys}
    prepare_interactions(trained.shop, workspace, kinds=EventWeights.of(None))
    log = open_log(workspace)
    model = open_model(recommender.generation.folder / "encoder")
    for key in keys:
        row = log.users.row(key)
        assert (row is None) == (live[key] is None), key
        if row is None:
            continue
        own = slice(log.offsets[row], log.offsets[row + 1])
        assert list(live[key].history) == log.item[own].tolist(), key
        assert list(live[key].times) == log.timestamp[own].tolist(), key
        vectors = model.users(log, np.array([row]))
        np.testing.assert_allclose(live[key].vector, vectors.dense[0], atol=1e-4)
        (sparse,) = sparse_rows(vectors.sparse)
        np.testing.assert_array_equal(live[key].sparse.indices, sparse.indices)
        np.testing.assert_allclose(live[key].sparse.values, sparse.values, atol=1e-4)


def test_only_who_did_something_costs_the_user_encoder(recommender, add, trained, monkeypatch):
    read = []
    encoder = type(recommender._following.present._reader)
    former = encoder.__call__
    monkeypatch.setattr(encoder, "__call__", lambda self, *rows: read.append(1) or former(self, *rows))
    other = next(u.user_id for u in recommender.generation.users.between(0, 9) if u.user_id != trained.user)
    recommender.query(trained.user)
    add("view", ids(recommender.query(trained.user))[0], trained.user)
    recommender.query(other)
    assert not read
    recommender.query(trained.user)
    add("view", ids(recommender.query(other))[0], "somebody else")
    recommender.query(trained.user)
    assert len(read) == 1


def test_lists_of_many_know_what_single_ones_know(recommender, add, trained, tmp_path, workspace):
    users = [one for one in recommender.generation.users.between(0, 30) if len(one.history)]
    items, query = recommender.generation.table.item_ids(), Query(k=8)
    before = [[placed.row for placed in one.places] for one in recommender.rank_many(users, query)]
    add("purchase", items[before[0][0]], users[0].user_id)
    add("view", items[before[1][0]], users[1].user_id)
    add("purchase", items[before[2][0]], users[2].user_id, transaction_id="T")
    add("impression", items[before[3][0]], users[3].user_id)
    add("return", items[before[2][0]], session="the staff's", transaction_id="T", after=1)
    for row in users[4].history:
        add("return", items[row], users[4].user_id, after=2)
    after = [[items[placed.row] for placed in one.places] for one in recommender.rank_many(users, query)]
    assert after[4] == []
    for number in (*range(4), 5, 6):
        assert after[number] == ids(recommender.query(users[number].user_id, k=8)), number
    assert items[before[0][0]] not in after[0]
    assert [items[row] for row in before[2]] == after[2]
    report = recommend(workspace.root, tmp_path / "lists.parquet", k=8)
    table = pq.read_table(report.path)
    for number in (0, 1, 2, 5):
        of_user = table.filter(pc.field("user_id") == users[number].user_id)
        assert of_user["item_id"].to_pylist() == after[number]
    assert not table.filter(pc.field("user_id") == users[4].user_id).num_rows


def test_who_sends_back_what_somebody_else_ordered_keeps_their_own(add, recommender):
    """As a generation with the same events has it: the order is the other person's, and no other one is meant."""
    bought = [add("purchase", "SKU-0001", who, after=n, transaction_id=f"T-{who}") for n, who in enumerate(("a", "b"))]
    assert bought == [1, 2]
    had = list(person(recommender, "b").history)
    add("return", "SKU-0001", "b", after=5, transaction_id="T-a")
    assert person(recommender, "a") is None
    assert list(person(recommender, "b").history) == had


def test_what_is_kept_of_somebody_is_numbers_not_all_that_they_did(recommender, workspace, trained, add):
    items, events = [item.item_id for item in recommender.popular(k=20).items], 2000
    rows = [
        {"event_id": f"m{n}", "event": "view", "item_id": items[n % 20], "user_id": trained.user, "timestamp": NOW + n}
        for n in range(events)
    ]
    with closing(EventLog(workspace)) as log:
        assert log.append(list(enumerate(rows))).accepted == events
    own = person(recommender, trained.user)
    assert len(own.history) >= events
    known = recommender._following.present._overlay._known[trained.user]
    assert known.person.record is own
    assert person(recommender, trained.user) is own  # it is not computed again
    add("impression", items[0], trained.user)
    assert person(recommender, trained.user) is own  # nor for what is no part of a history
    add("view", items[0], trained.user, after=events)
    assert len(person(recommender, trained.user).history) == len(own.history) + 1
    numbers = 8 * events + sum(one.itemsize * len(one) for one in (own.history, own.times, own.vector, *own.sparse))
    assert len(pickle.dumps(known)) < numbers + 2000
