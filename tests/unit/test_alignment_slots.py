"""Guesses for items without interactions, and their room: explicit solves, withheld items, the rule of a query."""

import numpy as np
import pytest
from alignment_tasks import cases_of, log_of
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.models.cold_start import RidgeSums, among, fair_share, guessed
from molar_retrieval.models.validation import rank_block, taken, withheld_items
from molar_retrieval.ranking.candidates import lifted, merge
from molar_retrieval.ranking.objectives import last


def explicit(features, vectors, counts, regularisation):
    """Weighted least squares with the penalty as rows of its own."""
    share = counts / (counts + 5.0)
    mean = np.average(vectors, axis=0, weights=share)
    root = np.sqrt(share)[:, None]
    rows = np.concatenate([root * features, np.sqrt(regularisation) * np.eye(features.shape[1])])
    wanted = np.concatenate([root * (vectors - mean), np.zeros((features.shape[1], vectors.shape[1]))])
    return lambda new: new @ np.linalg.lstsq(rows, wanted, rcond=None)[0] + mean


def ridge(features, vectors, counts, regularisation):
    return RidgeSums.of(features, vectors, counts, np.arange(len(features))).ridge(regularisation)


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
    parts = [RidgeSums.of(features, vectors, counts, rows) for rows in (np.arange(0, 60, 2), np.arange(1, 60, 2))]
    np.testing.assert_allclose(sum(parts[1:], parts[0]).ridge(regularisation)(new), got, rtol=1e-5, atol=1e-5)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, explicit(features, vectors, counts, regularisation)(new), rtol=1e-4, atol=1e-4)


def test_ridge_of_nothing_and_of_no_content(items):
    features, vectors, counts = items
    blind = ridge(np.zeros_like(features), vectors, counts, 1.0)(features[:3])
    np.testing.assert_allclose(
        blind, np.tile(np.average(vectors, axis=0, weights=counts / (counts + 5)), (3, 1)), rtol=1e-5
    )
    assert not ridge(features[:0], vectors[:0], counts[:0], 1.0)(features[:3]).any()


def test_guesses_are_those_of_the_other_items_and_new_ones_are_told_by_all(items):
    features, vectors, counts = items
    known, withheld = np.arange(60) % 6 > 0, np.arange(60) % 6 == 1
    guesses, predictor = guessed(features, vectors, counts, known, withheld)
    rest, errors, found = known & ~withheld, {}, {}
    for regularisation in (1.0, 10.0, 100.0):
        found[regularisation] = explicit(features[rest], vectors[rest], counts[rest], regularisation)(
            features[withheld]
        )
        errors[regularisation] = ((vectors[withheld] - found[regularisation]) ** 2).sum(1) @ (counts / (counts + 5.0))[
            withheld
        ]
    best = min(errors, key=errors.get)
    np.testing.assert_allclose(guesses, found[best], rtol=1e-3, atol=1e-3)
    whole = explicit(features[known], vectors[known], counts[known], best)(features)
    np.testing.assert_allclose(predictor(features), whole, rtol=1e-3, atol=1e-3)


def test_an_item_tells_its_own_guess_nothing(items):
    features, vectors, counts = items
    known, withheld = np.ones(60, bool), np.arange(60) % 5 == 2
    before, _ = guessed(features, vectors, counts, known, withheld)
    changed = np.where(withheld[:, None], vectors + 0.01, vectors)
    after, _ = guessed(features, changed, np.where(withheld, counts + 1, counts), known, withheld)
    assert np.array_equal(before, after)


@pytest.mark.parametrize("few", [0, 1, 2])
def test_few_known_items_can_be_guessed(items, few):
    features, vectors, counts = (part[:few] for part in items)
    guesses, predictor = guessed(features, vectors, counts, np.ones(few, bool), np.arange(few) == 0)
    assert guesses.shape == (min(few, 1), 4)
    assert np.isfinite(predictor(features)).all()


def test_a_tenth_of_the_known_items_is_withheld():
    known = np.arange(4000) % 4 > 0
    withheld = withheld_items(known, 0)
    assert not withheld[~known].any()
    assert 0.08 * known.sum() < withheld.sum() < 0.12 * known.sum()
    assert np.array_equal(withheld, withheld_items(known, 0))
    assert not np.array_equal(withheld, withheld_items(known, 1))


def test_cases_are_first_interactions_after_anything_else():
    log = log_of([[3, 1, 3, 4], [4, 3], [4], [0, 1, 1]], 6, 10 * np.arange(10))
    cases = taken(log, np.isin(np.arange(6), [3, 4]), 0)
    assert [(cases.log.history(user).tolist(), target, time) for user, target, time in
            zip(cases.users, cases.targets, cases.times, strict=True)] == [
        ([3, 1, 3], 4, 30),  # the first 3 follows nothing, the second is no news
        ([4], 3, 50),
    ]  # fmt: skip
    assert not len(taken(log, np.arange(6) == 5, 0))


def test_no_more_cases_than_are_needed():
    random = np.random.default_rng(0)
    log = log_of([random.permutation(20)[:5].tolist() for _ in range(50)], 20)
    withheld = np.arange(20) < 10
    cases = taken(log, withheld, 0, 7)
    assert len(cases) == 7
    assert withheld[cases.targets].all()
    assert (
        cases.targets.tolist()
        == taken(log, withheld, 0, 7).targets.tolist()
        != taken(log, withheld, 1, 7).targets.tolist()
    )


def test_cases_among_some_items_are_ranked_as_if_there_were_no_others():
    random = np.random.default_rng(1)
    histories = [random.permutation(30)[: random.integers(0, 8)].tolist() for _ in range(40)]
    some = np.arange(30) % 3 == 1
    targets = random.choice(np.flatnonzero(some), 40)
    whole = cases_of(histories, targets, 30)
    few = among(whole, some)
    scores = random.normal(size=(40, 30)).astype(np.float32)
    hidden = whole.hidden(slice(0, 40)) | ~some
    got = rank_block(scores[:, some], few.hidden(slice(0, 40)), few.targets)
    expected = rank_block(scores.copy(), hidden, targets)
    had = expected > 30  # behind all items: those of the catalogue
    assert (got > 10).tolist() == (np.minimum(expected, 31) > 10).tolist()
    assert got[~had].tolist() == expected[~had].tolist()
    assert few.times.tolist() == whole.times.tolist()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.04, 0), (0.06, 1), (0.2, 2), (0.31, 3), (0.9, 3), (1.0, 3)])
def test_parity_is_the_share_of_the_catalogue_up_to_a_limit(share, count):
    assert fair_share(np.arange(100) < 100 * share) == count
    assert fair_share(np.zeros(0, bool)) == 0


def by_merging(scores, newcomer, allowed, slots):
    """Everybody's rank in the list of a query."""
    ranks = []
    for row, may in zip(scores.astype(np.float64), allowed, strict=True):
        kinds = [sorted((row[n] for n in np.flatnonzero(may & kind)), reverse=True) for kind in (~newcomer, newcomer)]
        order, _ = merge(*kinds, slots)
        merged = [(n >= len(kinds[0]), [*kinds[0], *kinds[1]][n]) for n in order.tolist()]
        ranked = {key: place + 1 for place, key in enumerate(merged)}
        ranks.append([ranked[(bool(newcomer[n]), row[n])] if may[n] else None for n in range(len(row))])
    return ranks


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    n_known=st.integers(0, 30),
    n_new=st.integers(0, 25),
    slots=st.sampled_from([*map(last, range(10)), (3, 6, 10), (2, 10), (4, 5, 9, 10)]),
    allowed_share=st.sampled_from([1.0, 0.6, 0.2, 0.0]),
    spread=st.sampled_from([0.0171, 1.0373, 64.31]),
)
def test_a_lifted_list_ranks_as_the_merged_one(seed, n_known, n_new, slots, allowed_share, spread):
    random = np.random.default_rng(seed)
    count = n_known + n_new
    newcomer = random.permutation(np.arange(count) < n_new)
    # Nobody is level with anybody: the places of a list then are its ranks.
    scores = random.permuted(np.tile(np.arange(count), (4, 1)), axis=1) * np.where(newcomer, spread, 1.0)
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
def test_the_places_are_kept_whatever_the_units(level, offset):
    random = np.random.default_rng(0)
    newcomer = np.arange(70) % 3 == 0
    for slots in [*map(last, range(10)), (3, 6, 10)]:
        scores = np.where(newcomer, random.normal(size=(20, 70)) + offset, random.normal(size=(20, 70)) + level)
        got = lifted(scores.astype(np.float32), newcomer, np.ones((20, 70), bool), slots)
        first = np.argsort(-got, axis=1, kind="stable")[:, :10]
        assert (np.flatnonzero(newcomer[first].all(axis=0)) + 1).tolist() == list(slots)
        assert (newcomer[first].sum(1) == len(slots)).all()
