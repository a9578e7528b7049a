"""Guesses for items without interactions, and their room: explicit solves, held-out folds, the rule of a query."""

import numpy as np
import pytest
from alignment_tasks import cases_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax

from molar_retrieval.alignment import newcomers as module
from molar_retrieval.alignment.newcomers import FOLDS, cross_fitted, folds, lifted, newcomer_weights, parity, ridge
from molar_retrieval.alignment.validation import rank_block
from molar_retrieval.ranking.newcomers import merge


def explicit(features, vectors, counts, regularisation):
    """Weighted least squares with the penalty as rows of its own."""
    share = counts / (counts + 5.0)
    mean = np.average(vectors, axis=0, weights=share)
    root = np.sqrt(share)[:, None]
    rows = np.concatenate([root * features, np.sqrt(regularisation) * np.eye(features.shape[1])])
    wanted = np.concatenate([root * (vectors - mean), np.zeros((features.shape[1], vectors.shape[1]))])
    return lambda new: new @ np.linalg.lstsq(rows, wanted, rcond=None)[0] + mean


@pytest.fixture
def items():
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 7)).astype(np.float32)
    vectors = (features @ random.normal(size=(7, 4)) + 3 + random.normal(size=(60, 4))).astype(np.float32)
    return features, vectors, random.integers(1, 40, 60)


@pytest.mark.parametrize("regularisation", [1.0, 30.0])
def test_ridge_is_weighted_least_squares_with_a_penalty(items, regularisation):
    features, vectors, counts = items
    new = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    got = ridge(features, vectors, counts, regularisation)(new)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, explicit(features, vectors, counts, regularisation)(new), rtol=1e-4, atol=1e-4)


def test_ridge_of_nothing_and_of_no_content(items):
    features, vectors, counts = items
    blind = ridge(np.zeros_like(features), vectors, counts, 1.0)(features[:3])
    np.testing.assert_allclose(
        blind, np.tile(np.average(vectors, axis=0, weights=counts / (counts + 5)), (3, 1)), rtol=1e-5
    )
    assert not ridge(features[:0], vectors[:0], counts[:0], 1.0)(features[:3]).any()


def test_cross_fitting_solves_each_fold_without_it(items):
    features, vectors, counts = items
    fold = np.arange(60) % 5
    got, chosen = cross_fitted(features, vectors, counts, fold)
    errors = {}
    for regularisation in (1.0, 10.0, 100.0):
        guesses = np.zeros((60, 4))
        for number in range(5):
            rest = fold != number
            guesses[~rest] = explicit(features[rest], vectors[rest], counts[rest], regularisation)(features[~rest])
        errors[regularisation] = ((vectors - guesses) ** 2).sum(1) @ (counts / (counts + 5.0))
        if regularisation == chosen:
            np.testing.assert_allclose(got, guesses, rtol=1e-3, atol=1e-3)
    assert chosen == min(errors, key=errors.get)


def test_an_item_tells_its_own_guess_nothing(items):
    features, vectors, counts = items
    fold = np.arange(60) % 5
    before, chosen = cross_fitted(features, vectors, counts, fold)
    changed = vectors.copy()
    changed[fold == 2] += np.random.default_rng(2).normal(size=(12, 4)).astype(np.float32) / 10
    after, again = cross_fitted(features, changed, np.where(fold == 2, counts + 1, counts), fold)
    assert chosen == again
    assert np.array_equal(before[fold == 2], after[fold == 2])
    assert not np.isclose(before[fold != 2], after[fold != 2], atol=1e-6).all(1).any()


def test_few_known_items_can_be_cross_fitted(items):
    features, vectors, counts = items
    for few in (0, 1, 2):
        got, _ = cross_fitted(features[:few], vectors[:few], counts[:few], np.arange(few))
        assert got.shape == (few, 4)
        assert np.isfinite(got).all()


def test_folds_are_of_known_items_only_and_of_like_size():
    known = np.arange(2000) % 4 > 0
    fold = folds(known, 0)
    assert (fold[~known] == -1).all()
    counts = np.bincount(fold[known])
    assert len(counts) == FOLDS
    assert counts.min() > 0.6 * known.sum() / FOLDS
    assert np.array_equal(fold, folds(known, 0))
    assert not np.array_equal(fold, folds(known, 1))


@pytest.mark.parametrize(("share", "slots"), [(0.0, 0), (0.04, 0), (0.06, 1), (0.2, 2), (0.31, 3), (0.9, 3), (1.0, 3)])
def test_parity_is_the_share_of_the_catalogue_up_to_a_limit(share, slots):
    assert parity(np.arange(100) < 100 * share) == slots
    assert parity(np.zeros(0, bool)) == 0


@pytest.fixture
def question():
    """Everybody takes what points where the first part points; the second part is noise, some items are not known."""
    random = np.random.default_rng(3)
    count, n_items = 300, 80
    users = {name: random.normal(size=(count, 6)).astype(np.float32) for name in ("telling", "noise")}
    items = {name: random.normal(size=(n_items, 6)).astype(np.float32) for name in ("telling", "noise")}
    known = np.arange(n_items) % 8 > 0
    fold = folds(known, 0)
    scores = users["telling"] @ items["telling"].T + random.gumbel(size=(count, n_items))
    histories = [random.choice(n_items, 3, replace=False) for _ in range(count)]
    for row, history in enumerate(histories):
        scores[row, history] = -np.inf
    return histories, scores, users, items, fold


def test_the_telling_part_gets_the_weight(question):
    histories, scores, users, items, fold = question
    chosen = np.where(fold >= 0, scores, -np.inf).argmax(1)
    found = newcomer_weights(cases_of(histories, chosen, 80), users, items, fold, range(FOLDS), 0)
    assert found["telling"] == pytest.approx(1, abs=0.35)
    assert found["noise"] < 0.15 * found["telling"]
    other = {name: {"telling": side["noise"], "noise": side["telling"]} for name, side in (("u", users), ("i", items))}
    swapped = newcomer_weights(cases_of(histories, chosen, 80), other["u"], other["i"], fold, range(FOLDS), 0)
    assert swapped == pytest.approx({"telling": found["noise"], "noise": found["telling"]}, abs=0.02)


def test_items_compete_within_their_fold_only(question):
    """What lies between folds is no part of the question: moving a fold's scores as a whole changes nothing."""
    histories, scores, users, items, fold = question
    cases = cases_of(histories, np.where(fold >= 0, scores, -np.inf).argmax(1), 80)
    users = {**users, "level": np.ones((300, 1), np.float32)}
    expected = newcomer_weights(cases, users, {**items, "level": np.zeros((80, 1), np.float32)}, fold, range(FOLDS), 0)
    moved = newcomer_weights(cases, users, {**items, "level": fold[:, None].astype(np.float32)}, fold, range(FOLDS), 0)
    assert moved == pytest.approx(expected, abs=0.01)
    assert moved["level"] == 0


def test_weights_are_those_of_the_greatest_likelihood_within_the_folds_that_are_asked(question):
    histories, scores, users, items, fold = question
    for asked in (range(FOLDS), [1, 4]):
        chosen = np.where(fold >= 0, scores, -np.inf).argmax(1)
        choices = []
        for row, target in enumerate(chosen):
            if fold[target] in asked:
                rivals = np.setdiff1d(np.flatnonzero(fold == fold[target]), histories[row])
                parts = np.stack([items[name][rivals] @ users[name][row] for name in users], 1).astype(np.float64)
                choices.append((parts, np.flatnonzero(rivals == target)[0]))
        best = minimize(
            lambda w, choices=choices: -sum(log_softmax(parts @ w)[at] for parts, at in choices),
            [0.5, 0.5],
            bounds=[(0, None)] * 2,
        )
        found = newcomer_weights(cases_of(histories, chosen, 80), users, items, fold, asked, 0)
        assert list(found.values()) == pytest.approx(best.x.tolist(), abs=0.03)


def test_a_sample_is_judged_by_its_own_scores(question, monkeypatch):
    histories, scores, users, items, fold = question
    chosen = np.where(fold >= 0, scores, -np.inf).argmax(1)
    users["telling"][:100] = np.random.default_rng(0).normal(size=(100, 6))
    monkeypatch.setattr(module, "FIT_CASES", 60)
    found = newcomer_weights(cases_of(histories, chosen, 80), users, items, fold, range(FOLDS), 0)
    assert found["noise"] < 0.4 * found["telling"]


def test_without_known_targets_there_are_no_weights(question):
    histories, _, users, items, fold = question
    new = np.flatnonzero(fold < 0)
    cold = cases_of(histories, np.resize(new, 300), 80)
    assert newcomer_weights(cold, users, items, fold, range(FOLDS), 0) == {"telling": 0.0, "noise": 0.0}
    seen = cases_of(histories, [h[0] for h in histories], 80)
    assert newcomer_weights(seen, users, items, fold, range(FOLDS), 0) == {"telling": 0.0, "noise": 0.0}
    nobody = cold.select(np.zeros(0, int))
    assert newcomer_weights(nobody, {n: u[:0] for n, u in users.items()}, items, fold, range(FOLDS), 0)["telling"] == 0


def by_merging(scores, newcomer, allowed, slots):
    """Everybody's rank in the list of a query; who is level with somebody of their own kind stands behind."""
    ranks = []
    for row, may in zip(scores.astype(np.float64), allowed, strict=True):
        kinds = [sorted((row[n] for n in np.flatnonzero(may & kind)), reverse=True) for kind in (~newcomer, newcomer)]
        merged = [(p.newcomer, kinds[p.newcomer][p.place]) for p in merge(*kinds, slots)]
        last = {key: place + 1 for place, key in enumerate(merged)}
        ranks.append([last[(bool(newcomer[n]), row[n])] if may[n] else None for n in range(len(row))])
    return ranks


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    n_known=st.integers(0, 30),
    n_new=st.integers(0, 25),
    slots=st.integers(0, 10),
    allowed_share=st.sampled_from([1.0, 0.6, 0.2, 0.0]),
    spread=st.sampled_from([2, 8, 60]),
)
def test_a_lifted_list_ranks_as_the_merged_one(seed, n_known, n_new, slots, allowed_share, spread):
    random = np.random.default_rng(seed)
    count = n_known + n_new
    newcomer = random.permutation(np.arange(count) < n_new)
    # Two newcomers never differ by a multiple of a quarter, as known items do: only like can be level with like.
    scores = random.integers(-spread, spread + 1, (4, count)) * np.where(newcomer, 257 / 1024, 0.25)
    scores = scores.astype(np.float32)
    allowed = random.random((4, count)) < allowed_share
    expected = by_merging(scores, newcomer, allowed, slots)
    got = lifted(scores.copy(), newcomer, allowed, slots)
    for target in range(count):
        found = rank_block(got.copy(), ~allowed, np.full(4, target))
        for row in range(4):
            assert found[row] == (expected[row][target] or count + 1)
    assert np.array_equal(got[:, ~newcomer], scores[:, ~newcomer])


@pytest.mark.parametrize("level", [0.0, 1e-6, 7.3, -120.25, 500.0])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_slots_are_kept_whatever_the_units(level, offset):
    random = np.random.default_rng(0)
    newcomer = np.arange(70) % 3 == 0
    for slots in range(10):
        scores = np.where(newcomer, random.normal(size=(20, 70)) + offset, random.normal(size=(20, 70)) + level)
        got = lifted(scores.astype(np.float32), newcomer, np.ones((20, 70), bool), slots)
        first = np.argsort(-got, axis=1, kind="stable")[:, :10]
        assert (newcomer[first].sum(1) == slots).all()
