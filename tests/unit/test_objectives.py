"""One set of item vectors for several aims: scores against sums written out, and nothing else changed by other aims."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from alignment_tasks import EXPERTS, KNOWN, NEW, TOWERS, N, asked_log, model_of, training_log
from test_alignment_model import part_scores
from test_alignment_store import round_trip

from molar_retrieval.errors import RequestError
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.ranking.objectives import (
    EVERY,
    FUTURE_ITEMS,
    FUTURE_ITEMS_SEEN,
    NEXT_ITEM,
    NEXT_ITEM_SEEN,
    SESSION_START,
    SESSION_START_SEEN,
    Objective,
    last,
    served,
    shared,
)
from molar_retrieval.ranking.reranker import Reranker, features, moves, names
from molar_retrieval.rng import generator

SOON = {"id_tower": 1.0, "content_tower": 0.7, "sequential": 0.4, "ease": 1.3, "content_knn": 0.9, "popularity": 0.35}
LONG = {"id_tower": 0.2, "content_tower": 0.7, "sequential": 0.0, "ease": 2.6, "content_knn": 0.3, "popularity": 1.4}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def asked():
    return asked_log()


def with_objectives(soon, later, counts=EXPERTS):
    """The model whose weights of both horizons are these."""
    items, objectives = shared({NEXT_ITEM: soon, FUTURE_ITEMS: later})
    return replace(model_of(counts=counts, weights=items), objectives=objectives).seeing(training_log())


def summed(model, log, weights):
    """Scores of the known items by hand."""
    parts = part_scores(model, log, training_log())
    return sum(weight * parts[name] for name, weight in weights.items())[:, KNOWN]


FUTURE_ITEMS_ALONE = {
    "none": (SOON, LONG),
    "a counting expert": ({**SOON, "ease": 0.0}, LONG),
    "a tower": ({**SOON, "id_tower": 0.0}, LONG),
    "the trend": ({**SOON, "popularity": 0.0}, LONG),
    "all": ({"sequential": 1.0}, {"ease": 2.0, "content_tower": 0.5, "popularity": 0.1}),
}


@pytest.mark.parametrize("case", FUTURE_ITEMS_ALONE)
def test_each_horizon_is_the_sum_of_the_parts_with_its_own_weights(case, asked):
    soon, later = FUTURE_ITEMS_ALONE[case]
    model = with_objectives(soon, later)
    for log in (asked, replace(asked, asked_at=None)):
        for objective, weights in ((NEXT_ITEM, soon), (FUTURE_ITEMS, later)):
            got = model.scores(log, objective)
            np.testing.assert_allclose(got[:, KNOWN], summed(model, log, weights), rtol=1e-4, atol=1e-4)
            expected = {part: weight for part, weight in weights.items() if weight}
            told = model.weights_for(objective)
            assert {part: pytest.approx(weight) for part, weight in told.items() if weight} == expected


@pytest.mark.parametrize("soon", [SOON, {**SOON, "ease": 0.0}], ids=["all parts are shared", "one is of later alone"])
def test_other_aims_change_no_bit_of_the_default_scores(soon, asked):
    alone = model_of(weights=soon).seeing(training_log())
    model = with_objectives(soon, LONG)
    assert np.array_equal(model.scores(asked), alone.scores(asked))
    one, other = model.users(asked, np.arange(5)), alone.users(asked, np.arange(5))
    assert np.array_equal(one.dense, other.dense)


@pytest.mark.parametrize("case", FUTURE_ITEMS_ALONE)
def test_newcomers_are_ranked_alike_for_every_aim(case, asked):
    soon, later = FUTURE_ITEMS_ALONE[case]
    alone = model_of(weights=soon).seeing(training_log()).scores(asked)
    model = with_objectives(soon, later)
    for objective in (NEXT_ITEM, FUTURE_ITEMS):
        got = model.scores(asked, objective)[:, NEW]
        np.testing.assert_allclose(got, alone[:, NEW], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", FUTURE_ITEMS_ALONE)
def test_the_table_tells_scores_by_part(case, asked):
    """What answers: stored vectors of one user, one list at a time."""
    model, now = with_objectives(*FUTURE_ITEMS_ALONE[case]), replace(asked, asked_at=None)
    users = model.users(now, np.arange(5))
    reads = users.sparse.sorted_indices()
    for objective in (NEXT_ITEM, FUTURE_ITEMS):
        table = model.table.for_objective(model.factors(objective))
        vectors = [
            SparseVector(*(one[reads.indptr[user] : reads.indptr[user + 1]] for one in (reads.indices, reads.data)))
            for user in range(5)
        ]
        popularity = model._demand(now, model.factors(objective))
        for user, own in enumerate(vectors):
            parts = table.split(users.dense[user], own, np.arange(N))
            total = parts.sum(axis=1) + popularity[0]
            np.testing.assert_allclose(total, model.scores(now, objective)[user], rtol=1e-4, atol=1e-4)
            weights = model.weights_for(objective)
            for place, name in enumerate(table.names):
                if not weights.get(name):
                    assert not parts[KNOWN, place].any(), name


def test_a_part_of_another_aim_alone_is_no_feature_of_the_second_stage(asked):
    now = replace(asked, asked_at=None)
    found = []
    for model in (
        model_of(weights={**SOON, "ease": 0.0}).seeing(training_log()),
        with_objectives({**SOON, "ease": 0}, LONG),
    ):
        users = model.users(now, np.arange(5))
        lists = list(model.candidates(model.scores(now), np.ones((5, N), bool), users, now))
        known = lists[0].take(np.flatnonzero(~lists[0].cold))
        table = model.table
        given = features(table, known.rows[None], known.parts[None], [now.history(0)], table.counted)
        found.append((names(table, ()), given))
    assert found[0][0] == found[1][0]
    assert np.array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("part", ["popularity", "ease"])
def test_a_second_stage_moves_items_the_same_when_other_aims_come(part, asked):
    """It is learned before their weights are chosen; popularity stays among the parts without a weight, too."""
    soon, now, random = {**SOON, part: 0.0}, replace(asked, asked_at=None), generator(0, "second stage of an aim")
    alone, shared_by_two = model_of(weights=soon).seeing(training_log()), with_objectives(soon, {**LONG, part: 0.5})
    features_of = names(alone.table, ())
    count = len(features_of)
    shapes = {"mean": count, "deviation": count, "hidden": (2, count, 4), "bias": (2, 4), "out": (2, 4)}
    shapes |= {"skip": (2, count), "scale": 2}
    second = Reranker(features_of, {}, **{name: 1 + random.random(shape) for name, shape in shapes.items()})
    moved = []
    for model in (alone, shared_by_two):
        users = model.users(now, np.arange(5))
        lists = list(model.candidates(model.scores(now), np.ones((5, N), bool), users, now))
        moved.append(moves(model.table, second, lists, [now.history(user) for user in range(5)]))
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert any(one.any() for one in moved[0])


def test_objectives_are_saved_with_the_model(tmp_path, asked):
    model = replace(
        with_objectives({**SOON, "sequential": 0.0}, {**LONG, "sequential": 0.4}), default_objective="future_items"
    )
    back = round_trip(model, TOWERS, tmp_path).seeing(training_log())
    assert (back.objectives, back.default_objective) == (model.objectives, "future_items")
    assert back.objectives["next_item"] == {"sequential": 0.0}
    for objective in (NEXT_ITEM, FUTURE_ITEMS):
        assert np.array_equal(back.scores(asked, objective), model.scores(asked, objective))


def test_without_weights_of_its_own_an_aim_is_refused_or_answered_by_those_of_unseen_items():
    model = model_of()
    assert model.factors(NEXT_ITEM_SEEN) == {}
    for objective in (FUTURE_ITEMS, FUTURE_ITEMS_SEEN):
        with pytest.raises(RequestError, match="no weights were chosen for the objective 'future_items'") as error:
            model.factors(objective)
        assert "molar align" in str(error.value.hint)
    assert served({"future_items": {}}, FUTURE_ITEMS_SEEN) == FUTURE_ITEMS
    assert (
        served({"future_items": {}, "future_items, seen shown": {"popularity": 0.5}}, FUTURE_ITEMS_SEEN)
        == FUTURE_ITEMS_SEEN
    )
    assert served({"next_item, seen shown": {}}, NEXT_ITEM_SEEN) == NEXT_ITEM_SEEN
    assert served({"next_item, seen shown": {}}, SESSION_START_SEEN) == NEXT_ITEM_SEEN
    assert served({"next_item, session start": {}}, SESSION_START_SEEN) == SESSION_START
    assert (
        served({"next_item, session start": {}, "next_item, session start, seen shown": {}}, SESSION_START_SEEN)
        == SESSION_START_SEEN
    )
    assert served({"next_item, session start": {}}, NEXT_ITEM) == served({}, SESSION_START_SEEN) == NEXT_ITEM
    assert [objective.name for objective in EVERY] == [
        "next_item", "next_item, session start", "future_items", "next_item, seen shown",
        "next_item, session start, seen shown", "future_items, seen shown",
    ]  # fmt: skip
    assert Objective() == NEXT_ITEM


def test_an_aim_is_of_whoever_comes_back_half_an_hour_after_the_last_thing():
    assert NEXT_ITEM.at(10_000, 8201) == SESSION_START.at(10_000, 8201) == NEXT_ITEM
    assert NEXT_ITEM.at(10_000, 8200) == NEXT_ITEM.at(1e9, 1) == SESSION_START
    assert NEXT_ITEM.at(1e9, 0) == NEXT_ITEM, "the time is not known"
    assert FUTURE_ITEMS.at(1e9, 1) == FUTURE_ITEMS
    assert NEXT_ITEM_SEEN.at(1e9, 1) == SESSION_START_SEEN


def test_weights_of_several_aims_are_shared_between_items_and_users():
    items, objectives = shared(
        {
            NEXT_ITEM: {"a": 2.0, "b": 1.0, "c": 0.0},
            FUTURE_ITEMS: {"a": 1.0, "b": 1.0, "c": 3.0},
            NEXT_ITEM_SEEN: {"c": 6},
        }
    )
    assert items == {"a": 2.0, "b": 1.0, "c": 3.0}
    assert objectives == {
        "next_item": {"c": 0.0},
        "future_items": {"a": 0.5},
        "next_item, seen shown": {"a": 0.0, "b": 0.0, "c": 2.0},
    }
    assert shared({NEXT_ITEM: {"a": 1.0}, FUTURE_ITEMS: {"a": 1.0}}) == ({"a": 1.0}, {"future_items": {}})


def test_newcomers_have_places_in_lists_of_what_comes_next_alone(asked):
    model = replace(with_objectives(SOON, LONG), slots=last(2))
    allowed = np.ones((5, N), bool)
    for objective, slots in ((NEXT_ITEM, 2), (FUTURE_ITEMS, 0)):
        scores = model.lifted(model.scores(asked, objective), allowed, objective)
        first = np.argsort(-scores, axis=1)[:, :10]
        with_history = np.isin(first, NEW)[[0, 2, 3, 4]]
        assert with_history.sum(axis=1).tolist() == [slots] * 4
