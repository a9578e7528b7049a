"""A model's vectors and scores against sums over its parts, written out; popularity is that of the moment."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from alignment_tasks import EXPERTS, KNOWN, NEW, TOWERS, N, asked_log, model_of, training_log
from scipy.special import log_softmax

from molar_retrieval.models.popularity import DAY, Popularity
from molar_retrieval.models.vectors import encode_users, item_sides


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def asked():
    return asked_log()


def part_scores(model, log, seen):
    """Each part of the score of all items, unweighted, at the moments of ``log`` after what was ``seen``."""
    users = encode_users(model.network, log, np.arange(log.n_users), precision="float32")
    sides = item_sides(model.network, model.known)
    parts = {name: users[name].astype(np.float64) @ sides[name].T for name in users}
    for neighbors in model.item_item:
        history = np.zeros((log.n_users, N))
        for user in range(log.n_users):
            for age, item in enumerate(log.history(user)[::-1]):
                if neighbors.memory is None:
                    history[user, item] = 1 / np.sqrt(len(set(log.history(user).tolist())))
                elif age < neighbors.last:
                    own = log.timestamp[log.offsets[user] : log.offsets[user + 1]]
                    gap = own[-1] - own[-1 - age]
                    history[user, item] += neighbors.memory**age / (1 + gap / 60) ** neighbors.fade
        parts[neighbors.name] = history @ neighbors.weights.toarray()
    if model.content_knn is not None:
        unit = model.content_knn.items.astype(np.float64)
        rows = []
        for user in range(log.n_users):
            recent = log.history(user)[::-1][: model.content_knn.last]
            mean = sum(
                (model.content_knn.decay**age * unit[item] for age, item in enumerate(recent)), np.zeros(unit.shape[1])
            )
            rows.append(unit @ mean / max(1e-12, np.linalg.norm(mean)))
        parts["content_knn"] = np.array(rows)
    if model.half_life is not None:
        popularity = Popularity.fit(seen, model.half_life)
        now = (
            np.tile(popularity.now(), (log.n_users, 1)) if log.asked_at is None else popularity.log_scores(log.asked_at)
        )
        parts["popularity"] = now.astype(np.float64)
    return parts


def by_hand(model, log, seen):
    """Known items by the weighted parts, newcomers by guesses from their content."""
    parts = part_scores(model, log, seen)
    total = sum(model.weights.get(name, 0) * part for name, part in parts.items()) + np.zeros((log.n_users, N))
    users = encode_users(model.network, log, np.arange(log.n_users), precision="float32")
    users["popularity"] = np.ones((log.n_users, 1))
    if model.content_knn is not None:
        users["content_knn"] = model.content_knn.users(log)
    guessed = np.zeros((log.n_users, len(NEW)))
    for name, weight in model.cold_start_weights.items():
        if name in model.predictors:
            predictor = model.predictors[name]
            told = model.content_knn.items if name == "content_knn" else model.features
            vectors = told[NEW].astype(np.float64) @ predictor.matrix + predictor.mean
            guessed += weight * users[name] @ vectors.T
        else:
            guessed += weight * parts[name][:, NEW]
    total[:, NEW] = guessed
    return total


VARIANTS = {
    "everything": {},
    "no towers": {"towers": ()},
    "no count models": {"counts": ()},
    **{f"without {tower}": {"towers": tuple(t for t in TOWERS if t != tower)} for tower in TOWERS},
    **{f"without {expert}": {"counts": tuple(e for e in EXPERTS if e != expert)} for expert in EXPERTS},
    "only linear": {"towers": (), "counts": ("ease",), "cold_start_weights": {}},
    "only the collaborative tower has a weight": {"weights": {"id_tower": 2.0}, "cold_start_weights": {}},
    "newcomers by content, known items by counts": {
        "weights": {"ease": 1.0, "content_tower": 0.0},
        "cold_start_weights": {"content_knn": 1.0, "content_tower": 0.4},
    },
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def model(request):
    return model_of(**request.param)


def test_blocks_of_content_parts_follow_from_the_features_by_their_maps(model):
    dense, maps = model.items_now().dense, model.content_maps
    for part in model.dense_parts:
        if part.name in maps:
            own = dense[:, part.start : part.stop].astype(np.float64)
            made = np.where(
                model.known[:, None],
                model.features @ maps[part.name],
                model.features @ maps.get(f"cold_start {part.name}", maps[part.name]),
            )
            lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(made, axis=1)
            assert (own * made).sum(axis=1) == pytest.approx(lengths, rel=1e-5), "but for a factor"


def test_scores_are_the_weighted_sum_of_the_parts(model, asked):
    seen = training_log()
    for log in (asked, replace(asked, asked_at=None)):
        np.testing.assert_allclose(model.seeing(seen).scores(log), by_hand(model, log, seen), rtol=1e-4, atol=1e-4)


def test_dot_products_of_users_and_items_are_the_scores(model, asked):
    seen, now = training_log(), replace(asked, asked_at=None)
    rows = np.array([2, 0, 1, 2, 4])
    users, items = model.users(now, rows), model.items(seen)
    got = users.dense @ items.dense.T + (users.sparse @ items.neighbors.whole()).toarray()
    np.testing.assert_allclose(got, model.seeing(seen).scores(now)[rows], rtol=1e-4, atol=1e-4)
    assert (users.dense.dtype, items.dense.dtype) == (np.float32, np.float32)
    assert (users.sparse.dtype, items.neighbors.whole().dtype) == (np.float32, np.float32)


def test_the_spans_of_the_parts_give_the_parts(model, asked):
    seen, now = training_log(), replace(asked, asked_at=None)
    users, items = model.users(now, np.arange(5)), model.items(seen)
    expected = part_scores(model, now, seen)
    found = set()
    for spans, left, right in (
        (model.dense_parts, users.dense, items.dense),
        (model.sparse_parts, users.sparse.toarray(), items.neighbors.whole().T.toarray()),
    ):
        borders = [0, *(span.stop for span in spans)]
        assert [span.start for span in spans] == borders[:-1]
        assert borders[-1] == left.shape[1] == right.shape[1]
        for span in spans:
            name = span.name
            got = left[:, span.start : span.stop] @ right[KNOWN, span.start : span.stop].T
            weight = model.weights.get(name, 0)
            if name in expected:
                np.testing.assert_allclose(got, weight * expected[name][:, KNOWN], rtol=1e-4, atol=1e-4)
            else:
                assert name == "popularity"
                assert not got.any()
            found.add(name)
    used = {name for weights in (model.weights, model.cold_start_weights) for name, weight in weights.items() if weight}
    assert found == used | {"popularity"}
    assert model.dense_parts[-1].name == "popularity"
    assert model.dense_parts[-1].start == items.dense.shape[1] - 1


def test_users_carry_no_weights_and_their_last_number_is_one(model, asked):
    doubled = replace(
        model, weights={n: 2 * w for n, w in model.weights.items()}, cold_start_weights=model.cold_start_weights
    )
    one, other = model.users(asked, np.arange(5)), doubled.users(asked, np.arange(5))
    assert np.array_equal(one.dense, other.dense)
    assert (one.sparse != other.sparse).nnz == 0
    assert (one.dense[:, -1] == 1).all()
    assert not one.dense[1, :-1].any(), "nothing else is known of somebody without a history"
    assert one.sparse[1].nnz == 0


def test_newcomers_have_no_partners_and_no_popularity_of_their_own(model, asked):
    items = model.items(training_log())
    assert np.flatnonzero(items.newcomer).tolist() == NEW.tolist()
    assert items.neighbors.whole()[:, NEW].nnz == 0
    plain = model_of(cold_start_weights={}, counts=model_experts(model), towers=tuple(model.network.shapes))
    assert not plain.items(training_log()).dense[NEW].any()


def model_experts(model):
    return (
        [p.name for p in model.item_item]
        + (["content_knn"] if model.content_knn else [])
        + (["popularity"] if model.half_life else [])
    )


def test_popularity_of_now_is_baked_into_the_items():
    model, seen = model_of(), training_log()
    early = seen.select(seen.timestamp < 11_050 * DAY)
    now, then = model.items(seen).dense, model.items(early).dense
    last = seen.timestamp.max() // DAY + 1
    for item in KNOWN:
        ages = last - seen.timestamp[seen.item == item] // DAY
        expected = np.log(0.05 + (2.0 ** (-ages / 20.0)).sum())
        assert now[item, -1] == pytest.approx(0.35 * expected, abs=1e-4)
    assert not np.allclose(now[KNOWN, -1], then[KNOWN, -1])
    assert np.array_equal(now[:, :-1], then[:, :-1])
    assert np.array_equal(now[NEW], then[NEW]), "what is guessed of newcomers does not depend on the day"


def test_a_question_hears_only_of_its_past(asked):
    model, seen = model_of(), training_log()
    base = model.seeing(seen).scores(asked)
    border = 11_000 * DAY + 60 * DAY
    later = seen.timestamp >= border
    assert 10 < later.sum() < len(seen) - 10
    other = replace(seen, item=np.where(later, (seen.item + 1) % 3, seen.item).astype(np.int32))
    changed = model.seeing(other).scores(asked)
    early = asked.asked_at < border + DAY
    assert early.tolist() == [True, True, False, True, True]
    assert np.array_equal(base[early], changed[early])
    assert not np.allclose(base[2], changed[2])
    assert np.array_equal(base[:, NEW], changed[:, NEW])
    assert not np.allclose(base[0, KNOWN], replace(model.seeing(seen)).scores(replace(asked, asked_at=None))[0, KNOWN])


def test_a_model_that_has_seen_no_log_scores_without_popularity(asked):
    model = model_of()
    without = replace(model_of(weights={k: v for k, v in model.weights.items() if k != "popularity"}))
    assert model.popularity is None
    np.testing.assert_array_equal(model.scores(asked), without.scores(asked))


def test_lifting_is_of_the_models_newcomers_and_places(asked):
    for slots in ((), (9, 10), (4, 10)):
        model = model_of(slots=slots).seeing(training_log())
        got = model.lifted(model.scores(asked), np.ones((5, N), bool))
        first = np.argsort(-got, axis=1, kind="stable")[:, :10]
        assert (np.isin(first, NEW).sum(1)[[0, 2, 3, 4]] == len(slots)).all(), "without a history too many are level"


def test_a_softmax_over_the_known_items_knows_no_shift_of_the_table(asked):
    """What `item_sides` takes away from all warm items alike is no part of anybody's ranking."""
    model = model_of(("id_tower",), (), weights={"id_tower": 1.0}, cold_start_weights={})
    rows = np.array([0, 2, 3])
    users = encode_users(model.network, asked, rows, precision="float32")["id_tower"]
    raw = users @ model.network.items["id_tower"].weight.detach().numpy()[KNOWN].T
    got = model.scores(asked)[rows][:, KNOWN]
    np.testing.assert_allclose(log_softmax(got, axis=1), log_softmax(raw, axis=1), atol=1e-4)
