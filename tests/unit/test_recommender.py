"""The recommender on a trained demo shop, against the exact answer computed from the artefacts."""

from datetime import UTC, datetime

import numpy as np
import pytest

from molar_indexes.constraints import _like
from molar_indexes.recommender import Recommender
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import MissingArtefactError, RequestError, StaleArtefactError, nearest
from molar_retrieval.ids import IdMap
from molar_retrieval.models.als import open_log
from molar_retrieval.models.store import open_model
from molar_retrieval.ranking.filters import And, Equals, Not
from molar_retrieval.workspace.artefacts import Manifest, Workspace


@pytest.fixture(scope="module")
def recommender(trained):
    with Recommender.open(trained.workspace) as opened:
        yield opened


@pytest.fixture(scope="module")
def log(trained):
    return open_log(Workspace.open(trained.workspace))


@pytest.fixture(scope="module")
def model(trained):
    return open_model(Workspace.open(trained.workspace)["alignment"].require()[0])


def while_there(recommender, log, user_id, monkeypatch):
    """Answer as of the moment at which somebody did the last thing."""
    last = log.timestamp[log.offsets[log.users.row(user_id) + 1] - 1]
    monkeypatch.setattr(recommender, "now", datetime.fromtimestamp(int(last), UTC))


def test_answers_are_the_exact_ranking_of_the_trained_model(recommender, log, model, monkeypatch):
    items = model.items(log)
    neighbors = items.neighbors.whole()
    for row in range(0, log.n_users, 17):
        if not len(log.history(row)):
            continue
        user = model.users(log, np.array([row]))
        scores = user.dense @ items.dense.T + (user.sparse @ neighbors).toarray()
        allowed = np.ones((1, log.n_items), bool)
        allowed[0, log.history(row)] = False
        scores = np.where(allowed, model.lifted(scores, allowed), -np.inf)[0]
        while_there(recommender, log, log.users.id(row), monkeypatch)
        answer = recommender.query(log.users.id(row), k=10, explore=False)
        got = [item.item_id for item in answer.items]
        assert got == log.items.ids(np.argsort(-scores, kind="stable")[:10])
        assert np.allclose([i.score for i in answer.items], np.sort(scores)[::-1][:10], atol=1e-4)


def test_parts_add_up_and_are_those_of_the_model(trained, recommender, log, model, monkeypatch):
    names = [part.name for part in (*model.dense_parts, *model.sparse_parts)]
    while_there(recommender, log, trained.user, monkeypatch)
    answer = recommender.query(trained.user, k=trained.items, explore=False)
    for item in answer.items:
        known = model.known[log.items.row(item.item_id)]
        assert list(item.parts) == (names if known else [*names, "cold_start"])
        assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-4)
    for part in names:
        assert any(item.parts[part] != 0 for item in answer.items)


def test_newcomers_come_back_without_partners(trained, recommender, log, model):
    newcomers = set(log.items.ids(np.flatnonzero(~model.known)))
    assert newcomers
    assert recommender.generation.cold_items == len(newcomers)
    answer = recommender.query(trained.user, k=trained.items, filter_seen=False, explore=False)
    found = [i for i in answer.items if i.item_id in newcomers]
    assert len(found) == len(newcomers)
    assert all(i.parts[part.name] == 0 for i in found for part in model.sparse_parts)
    assert max(i.parts["cold_start"] for i in found) == pytest.approx(min(i.parts["cold_start"] for i in found))


def test_seen_items_are_hidden_unless_asked_for(trained, recommender, log):
    row = log.users.row(trained.user)
    seen = set(log.items.ids(log.history(row)))
    everything = recommender.query(trained.user, k=trained.items)
    assert not seen & {i.item_id for i in everything.items}
    assert len(everything.items) == trained.items - len(seen)
    assert f"{len(seen)} are hidden" in everything.shortfall
    shown = recommender.query(trained.user, k=trained.items, filter_seen=False)
    assert len(shown.items) == trained.items
    assert shown.shortfall is None


def test_a_condition_is_applied_inside_the_search(trained, recommender):
    first = recommender.query(trained.user, k=5)
    category = first.items[0].payload["category"]
    other = recommender.query(trained.user, k=5, where=Not(Equals("category", category)))
    assert len(other.items) == 5
    assert all(i.payload["category"] != category for i in other.items)


def test_a_session_is_the_user_with_that_history_at_one_moment(trained, recommender, log):
    ids = log.items.ids(log.history(log.users.row(trained.user))[-4:])
    answer = recommender.query(session=ids, k=7)
    assert len(answer.items) == 7
    assert not set(ids) & {i.item_id for i in answer.items}
    assert answer.user_id is None
    assert [i.item_id for i in answer.items] != [i.item_id for i in recommender.query(session=ids[::-1], k=7).items]


def test_a_session_has_the_vectors_of_the_model(trained, recommender, log, model):
    items = log.history(log.users.row(trained.user))[-4:]
    same = Interactions(IdMap(["s"]), log.items, np.array([0, 4]), items, np.full(4, 77))
    user, read = model.users(same, np.zeros(1, np.int64)), recommender._following.present._reader(items.tolist())
    np.testing.assert_allclose(read.vector, user.dense[0], atol=1e-4)
    assert list(read.sparse.indices) == user.sparse.sorted_indices().indices.tolist()
    assert (list(read.history), list(read.times)) == (items.tolist(), [0] * 4)


def test_unknown_items_of_a_session_are_left_out_with_a_note(recommender, log):
    known = log.items.ids(np.array([3, 1, 3]))
    right = recommender.query(session=known, k=4)
    assert right.notes == []
    one = recommender.query(session=[known[0], "sold long ago", *known[1:]], k=4)
    assert one.items == right.items
    assert one.notes == ["of the session these items are left out, as they are unknown: 'sold long ago'"]
    gone = [f"{number} {'x' * 2000}" for number in range(500)]
    many = recommender.query(session=[*gone, *gone, *known][-1000:], k=4)
    assert many.items == right.items
    (note,) = many.notes
    assert note.endswith(" and 497 more")
    assert len(note) < 400


def test_the_times_of_a_history_are_those_of_the_log(recommender, log):
    for row in range(0, log.n_users, 17):
        user = recommender.generation.users.get(log.users.id(row))
        assert list(user.times) == log.timestamp[log.offsets[row] : log.offsets[row + 1]].tolist()


def test_similar_items_are_ranked_by_cosine_and_leave_the_item_out(trained, recommender, log):
    item = log.items.id(3)
    answer = recommender.similar(item, k=5)
    assert item not in {i.item_id for i in answer.items}
    scores = [i.score for i in answer.items]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] <= 1 + 1e-5


def test_popular_answers_for_people_without_history(trained, recommender, log):
    counts = np.bincount(log.item, minlength=log.n_items)
    for user in (trained.new_user, "nobody has this id"):
        answer = recommender.query(user, k=3, fallback="popular")
        assert answer.basis == "popularity"
        assert [i.item_id for i in answer.items] == log.items.ids(np.argsort(-counts, kind="stable")[:3])
    assert recommender.query(trained.user, k=3, fallback="popular").basis == "aligned"


def test_requests_that_cannot_be_answered_say_why(trained, recommender):
    with pytest.raises(RequestError, match="no history is known") as caught:
        recommender.query(trained.user.upper(), fallback="error")
    assert trained.user not in caught.value.hint
    with pytest.raises(RequestError, match="no history is known"):
        recommender.query(trained.new_user, fallback="error")
    with pytest.raises(RequestError, match="k = 0"):
        recommender.query(trained.user, k=0)
    with pytest.raises(RequestError, match="empty"):
        recommender.query(session=[])
    with pytest.raises(RequestError, match="'no such item' is unknown"):
        recommender.query(session=["no such item", "nor this"], fallback="error")
    with pytest.raises(RequestError, match="unknown"):
        recommender.similar("no such item", fallback="error")


def test_a_generation_without_its_own_encoder_refuses_that_of_another_alignment(trained, recommender, monkeypatch):
    monkeypatch.setattr("molar_indexes.sessions.carried", lambda _: None)
    item = recommender.query(trained.user).items[0].item_id
    with Recommender.open(trained.workspace) as fresh:
        assert fresh.query(session=[item]).items == recommender.query(session=[item]).items
    real = Manifest.read

    def other(folder):
        manifest = real(folder)
        if manifest.kind != "alignment":
            return manifest
        return Manifest("alignment", "another", manifest.inputs, manifest.settings, manifest.facts)

    monkeypatch.setattr(Manifest, "read", staticmethod(other))
    with (
        Recommender.open(trained.workspace) as fresh,
        pytest.raises(StaleArtefactError, match="was made with the alignment"),
    ):
        fresh.query(session=[item])


def test_a_workspace_without_a_generation_names_the_command(tmp_path):
    with pytest.raises(MissingArtefactError) as caught:
        Recommender.open(tmp_path)
    assert "molar embed" in caught.value.hint
    (tmp_path / "catalogue").mkdir()
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "catalogue")
    with pytest.raises(MissingArtefactError) as caught:
        Recommender.open(workspace.root)
    assert "molar align" in caught.value.hint


def test_a_condition_in_words_is_the_same_condition(recommender, trained):
    words = recommender.query(trained.user, k=50, where="category != Shoes and not category = Vases")
    same = recommender.query(trained.user, k=50, where=And((Not(Equals("category", "Shoes")),
                                                            Not(Equals("category", "Vases")))))  # fmt: skip
    assert [item.item_id for item in words.items] == [item.item_id for item in same.items]
    assert {item.payload["category"] for item in words.items}.isdisjoint({"Shoes", "Vases"})
    assert len(words.items) > 10
    with pytest.raises(RequestError, match="no field 'categry'") as caught:
        recommender.query(trained.user, where="categry = Shoes")
    assert "did you mean 'category'" in caught.value.hint


@pytest.mark.parametrize("ask", ["query", "session", "similar", "popular"])
def test_only_and_exclude(recommender, trained, ask):
    first = [item.item_id for item in recommender.query(trained.user, k=12).items]
    only, exclude = first[:8], [*first[4:6], "sold out long ago"]
    limits = {"k": 20, "candidates": only, "exclude": exclude}
    answer = {
        "query": lambda: recommender.query(trained.user, **limits),
        "session": lambda: recommender.query(session=first[10:], **limits),
        "similar": lambda: recommender.similar(first[11], **limits),
        "popular": lambda: recommender.query("nobody", fallback="popular", **limits),
    }[ask]()
    assert {item.item_id for item in answer.items} == {*only[:4], *only[6:]}
    assert answer.shortfall
    assert "hidden" in answer.shortfall
    conditioned = recommender.query(trained.user, k=20, candidates=only, where=f"item_id in ({', '.join(only[:2])})")
    assert {item.item_id for item in conditioned.items} == set(only[:2])


def test_what_may_come_must_be_known(recommender, trained):
    with pytest.raises(RequestError, match="unknown"):
        recommender.query(trained.user, candidates=["nonesuch"], fallback="error")
    assert recommender.query(trained.user, candidates=[]).items == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"where": 5},
        {"where": "x" * 5000},
        {"where": And(tuple([Equals("price", 1)] * 201))},
        {"exclude": "SKU-0001"},
        {"exclude": [1]},
        {"candidates": ["x"] * 10_001},
        {"candidates": ["x" * 2049]},
        {"rules": 1},
        {"filter_seen": "maybe"},
        {"diversity": float("nan")},
        {"diversity": True},
        {"calibration_weight": "0.5"},
        {"calibrate": 3},
        {"language": "x" * 3000},
        {"explain": "yes"},
        {"fallback": "some"},
    ],
    ids=repr,
)
def test_options_of_another_kind_or_beyond_their_bound_are_refused(trained, recommender, wrong):
    with pytest.raises(RequestError) as caught:
        recommender.query(trained.user, **wrong)
    assert len(caught.value.message) < 300


def test_many_ids_may_be_excluded_or_allowed(trained, recommender):
    answer = recommender.query(trained.user, k=5)
    ids = [item.item_id for item in answer.items]
    none = [f"none-{number}" for number in range(9990)]
    assert [item.item_id for item in recommender.query(trained.user, k=5, exclude=none).items] == ids
    assert not {item.item_id for item in recommender.query(trained.user, k=5, exclude=[*none, *ids]).items} & set(ids)


def test_an_unknown_item_of_many_is_compared_with_those_that_begin_like_it():
    ids = [f"{kind}-{number:05d}" for kind in ("lamp", "shoe") for number in range(15_000)]
    assert set(nearest("shoe-000x1", _like("shoe-000x1", ids))) <= set(ids)
    assert all(name.startswith("shoe-000") for name in _like("shoe-000x1", ids))
    assert len(_like("zebra", ids)) == 20_000
    assert len(_like("", ids)) == 20_000


def test_the_popular_list_heeds_conditions_and_what_is_left_out(recommender):
    everybody = recommender.popular(k=60)
    assert everybody.basis == "popularity"
    assert [item.item_id for item in everybody.items] == [
        item.item_id for item in recommender.query("nobody", k=60, fallback="popular").items
    ]
    first = everybody.items[0]
    some = recommender.popular(k=5, where="price < 40", exclude=[first.item_id])
    wanted = [item.item_id for item in everybody.items if item.payload["price"] < 40 and item is not first]
    assert [item.item_id for item in some.items] == wanted[:5]
