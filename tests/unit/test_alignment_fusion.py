"""Weights of the parts: never worse than any part, the logit against brute force, nothing breaks it."""

from dataclasses import replace

import numpy as np
import pytest
from alignment_tasks import cases_of, random_cases, rank_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped import is_mapped
from scipy.optimize import minimize
from scipy.special import log_softmax

from molar_retrieval.models import blending, validation
from molar_retrieval.models import blending as module
from molar_retrieval.models.blending import blend, logit
from molar_retrieval.models.blending import fit_logit as fit_by_parts
from molar_retrieval.models.validation import ndcg


class Table:
    """A part whose scores are given."""

    def __init__(self, scores):
        self.table = np.asarray(scores, np.float32)

    def scores(self, cases):
        return self.table[cases].copy()


def task(seed, count=60, n_items=30, signals=(1.0, 0.6), scale=1.0):
    """Cases and parts that know the target a bit; each part is noise plus a signal of its own at the target."""
    cases = random_cases(count, n_items, seed)
    random = np.random.default_rng(seed + 1000)
    parts = {}
    for number, signal in enumerate(signals):
        scores = random.normal(size=(count, n_items))
        scores[np.arange(count), cases.targets] += signal
        parts[f"part{number}"] = Table(scores * scale**number)
    return cases, parts


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    signals=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.3, 1.0, 2.5]), min_size=1, max_size=4),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    count=st.sampled_from([1, 3, 40]),
    sampled=st.sampled_from([5000, 4]),
)
def test_the_sum_is_never_worse_than_a_part_and_its_ranks_are_those_of_its_weights(
    seed, signals, scale, count, sampled
):
    cases, parts = task(seed, count=count, signals=signals, scale=scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blending, "MOST_CASES", sampled)
        found = blend(cases, parts, seed)
    assert list(found.weights) == list(parts)
    assert all(weight >= 0 for weight in found.weights.values())
    assert any(found.weights.values())
    assert sum(found.shares.values()) == pytest.approx(1)
    assert [share > 0 for share in found.shares.values()] == [weight > 0 for weight in found.weights.values()]
    for name, part in parts.items():
        assert found.alone[name].tolist() == rank_by_hand(cases, part.table)
        assert ndcg(found.ranks) >= ndcg(found.alone[name])
    together = sum(np.float32(w) * parts[name].table for name, w in found.weights.items() if w)
    by_hand = rank_by_hand(cases, together)
    assert np.mean(np.array(by_hand) == found.ranks) > 0.99, "but for the rounding of sums"


def test_parts_that_know_different_things_help_each_other():
    cases, parts = task(5, count=400, n_items=100, signals=(2.0, 2.0, 0.0), scale=20.0)
    found = blend(cases, parts)
    best = max(ndcg(rank) for rank in found.alone.values())
    equal = rank_by_hand(cases, parts["part0"].table + parts["part1"].table / 20)
    assert ndcg(found.ranks) > 1.3 * best
    assert ndcg(found.ranks) > 0.97 * ndcg(np.array(equal)), "both are worth the same, in units 20 times apart"
    ratio = found.weights["part1"] / found.weights["part0"] * 20
    assert 0.5 < ratio < 2
    assert found.shares["part1"] / found.shares["part0"] == pytest.approx(ratio, rel=0.1), "shares know no units"


def test_a_part_that_knows_nothing_is_dropped_and_one_that_helps_is_not(monkeypatch):
    """With enough cases; what is told of it is the difference that it makes beside the others."""
    monkeypatch.setattr(module, "_drawn_towards", lambda steady, peak, *_: np.array([1.0, 1.0, 0.5]))
    cases, parts = task(5, count=1000, n_items=100, signals=(2.0, 2.0, 0.0))
    found = blend(cases, parts)
    assert list(found.dropped) == ["part2"]
    assert found.weights == {"part0": 1.0, "part1": 1.0, "part2": 0.0}
    without = parts["part0"].table + parts["part1"].table
    before, after = (
        rank_by_hand(cases, scores) for scores in (without + np.float32(0.5) * parts["part2"].table, without)
    )
    gain = found.dropped["part2"]
    assert gain.value == pytest.approx(ndcg(np.array(before)) - ndcg(np.array(after)), abs=1e-4)
    assert 0 < gain.error < 0.02
    assert gain.value < -gain.error
    few = blend(cases.select(np.arange(999)), {name: Table(part.table[:999]) for name, part in parts.items()})
    assert not few.dropped
    assert few.weights["part2"] == 0.5


def test_what_neither_helps_nor_harms_stays_unless_more_is_asked_of_it(monkeypatch):
    monkeypatch.setattr(module, "_drawn_towards", lambda steady, peak, *_: np.array([1.0, 1.0, 0.02]))
    cases, parts = task(5, count=1000, n_items=100, signals=(2.0, 2.0, 0.0))
    assert not blend(cases, parts).dropped
    assert list(blend(cases, parts, least=1.0).dropped) == ["part2"]


def test_of_two_that_say_the_same_one_is_dropped(monkeypatch):
    monkeypatch.setattr(module, "_drawn_towards", lambda *_: np.array([1.0, 1.0]))
    cases, parts = task(5, count=1000, n_items=100, signals=(2.0,))
    found = blend(cases, {"one": parts["part0"], "same": parts["part0"]})
    assert sorted(found.weights.values()) == [0.0, 1.0]
    assert found.ranks.tolist() == found.alone["one"].tolist()


def test_units_do_not_matter():
    cases, parts = task(3, count=300, n_items=60, signals=(2.0, 1.5))
    plain = blend(cases, parts)
    scaled = blend(cases, {"part0": Table(parts["part0"].table * 1000), "part1": Table(parts["part1"].table / 50)})
    assert ndcg(scaled.ranks) == pytest.approx(ndcg(plain.ranks), rel=0.01)


def test_one_part_is_left_as_it_is():
    cases, parts = task(0, signals=(1.0,))
    found = blend(cases, parts)
    assert found.weights == {"part0": 1.0}
    assert found.ranks.tolist() == found.alone["part0"].tolist()


def test_parts_that_are_all_wrong_leave_the_least_wrong():
    cases = cases_of([[0]] * 5, [3, 4, 5, 6, 7], 40)
    bad = np.ones((5, 40))
    bad[np.arange(5), cases.targets] = 0
    found = blend(cases, {"a": Table(bad), "b": Table(2 * bad)})
    assert found.weights in ({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0})
    assert found.ranks.tolist() == [39] * 5


def test_targets_that_are_all_hidden_and_no_cases_at_all():
    cases = cases_of([[3], [4]], [3, 4], 12)
    parts = {"a": Table(np.eye(2, 12)), "b": Table(np.eye(2, 12))}
    assert blend(cases, parts).ranks.tolist() == [13, 13]
    nobody = cases.select(np.zeros(0, int))
    found = blend(nobody, parts)
    assert len(found.ranks) == 0
    assert sum(found.weights.values()) == 1


def test_a_sample_of_hidden_targets_alone_is_no_trouble(monkeypatch):
    monkeypatch.setattr(blending, "MOST_CASES", 1)
    targets = [3] * 30 + [4]  # only the last one is not hidden
    cases = cases_of([[3]] * 31, targets, 12)
    random = np.random.default_rng(0)
    found = blend(cases, {"a": Table(random.normal(size=(31, 12))), "b": Table(random.normal(size=(31, 12)))})
    assert ndcg(found.ranks) >= max(map(ndcg, found.alone.values()))


def test_a_sample_is_judged_by_its_own_scores(monkeypatch):
    """The first half of the cases is of no use: whoever reads its scores for the others' finds nothing."""
    cases, parts = task(9, count=600, n_items=50, signals=(2.5, 2.5))
    for part in parts.values():
        part.table[:300] = np.random.default_rng(0).normal(size=(300, 50))
    whole = blend(cases, parts)
    monkeypatch.setattr(validation, "SCORES_PER_BLOCK", 70 * 50)
    monkeypatch.setattr(blending, "MOST_CASES", 200)
    part = blend(cases, parts)
    assert len(part.ranks) == 600
    assert ndcg(whole.ranks) > 1.1 * max(map(ndcg, whole.alone.values()))
    assert ndcg(part.ranks) == pytest.approx(ndcg(whole.ranks), rel=0.03)


@pytest.fixture
def late():
    """The first half of the cases is of no use."""
    cases, parts = task(9, count=600, n_items=50, signals=(2.5, 2.5))
    for part in parts.values():
        part.table[:300] = np.random.default_rng(0).normal(size=(300, 50))
    return cases, parts


def test_a_sample_is_fitted_to_its_own_scores(late, monkeypatch):
    monkeypatch.setattr(validation, "SCORES_PER_BLOCK", 70 * 50)
    cache = blending.ScoreCache.of(*late, np.random.default_rng(0))
    whole = logit(cache)
    monkeypatch.setattr(blending, "MOST_CASES", 250)
    found = logit(blending.ScoreCache.of(*late, np.random.default_rng(0)))
    assert found.tolist() == pytest.approx(whole.tolist(), rel=0.35)
    assert min(whole) > 0.6


def test_a_sample_of_the_ascent_has_its_own_scores(late, monkeypatch):
    cases, parts = late
    monkeypatch.setattr(validation, "SCORES_PER_BLOCK", 70 * 50)
    monkeypatch.setattr(blending, "MOST_CASES", 250)
    cache = blending.ScoreCache.of(cases, parts, np.random.default_rng(0))
    numbers = validation.drawn(600, 250, np.random.default_rng(0))
    for weights in ([1.0, 0.0], [0.5, 2.0]):
        table = weights[0] * parts["part0"].table + weights[1] * parts["part1"].table
        expected = ndcg(np.array(rank_by_hand(cases.select(numbers), table[numbers])))
        assert cache.ndcg(np.array(weights)) == pytest.approx(expected, abs=1e-3)


def test_scores_that_do_not_fit_in_memory_lie_in_a_file_and_tell_the_same(tmp_path, monkeypatch):
    cases, parts = task(6, count=300, n_items=50, signals=(2.0, 1.5))
    monkeypatch.setattr(validation, "SCORES_PER_BLOCK", 70 * 50)
    held = blend(cases, parts)
    monkeypatch.setattr(blending, "_MOST_SCORES", 2 * 300 * 50 - 1)
    monkeypatch.setattr(blending, "_FEWEST", 300)
    cases = replace(cases, folder=tmp_path)
    cache = blending.ScoreCache.of(cases, parts, np.random.default_rng(0))
    assert all(is_mapped(block.scores) for block in cache.blocks)
    assert not list(tmp_path.iterdir())
    found = blend(cases, parts)
    assert found.weights == held.weights
    assert found.ranks.tolist() == held.ranks.tolist()


def test_the_ascent_climbs_and_leaves_out_what_harms():
    cases, parts = task(4, count=300, n_items=60, signals=(2.0, 1.5, -1.5))
    cache = blending.ScoreCache.of(cases, parts, np.random.default_rng(0))
    start = np.array([1.0, 0.0, 0.3])
    end = cache.ascended(start)
    assert cache.ndcg(end) > cache.ndcg(start) + 0.05
    assert end[1] > 0
    assert end[2] == 0
    assert start.tolist() == [1.0, 0.0, 0.3]
    assert cache.ascended(end).tolist() == pytest.approx(end.tolist(), rel=1)


def test_what_is_hidden_has_no_say_in_the_fit():
    cases, parts = task(6, count=200, n_items=40, signals=(1.5, 1.0))
    before = logit(blending.ScoreCache.of(cases, parts, np.random.default_rng(0)))
    hidden = cases.hidden(slice(0, 200))
    for part in parts.values():
        part.table[hidden] = np.random.default_rng(1).normal(size=hidden.sum()) * 9 + 5
    after = logit(blending.ScoreCache.of(cases, parts, np.random.default_rng(0)))
    assert after.tolist() == pytest.approx(before.tolist(), rel=1e-3)


def fit_logit(tables, targets):
    """By tables (cases, alternatives, parts), the order in which the tests write them."""
    return fit_by_parts([np.moveaxis(table, -1, 0) for table in tables], targets)


def likelihood(tables, targets, weights):
    """Mean log-likelihood in float64, alternatives that are not to be had dropped one by one."""
    total, count = 0.0, 0
    for table, target in zip(tables, targets, strict=True):
        for case, taken in zip(table.astype(np.float64), target, strict=True):
            there = ~np.isnan(case[:, 0])
            own = np.flatnonzero(there).tolist().index(taken)
            total += log_softmax(case[there] @ weights)[own]
            count += 1
    return total / count


def choices(truth, count, alternatives, seed, offset=0.0):
    """People who choose as a logit of these weights would; every fourth alternative is not there."""
    random = np.random.default_rng(seed)
    table = random.normal(size=(count, alternatives, len(truth))) + offset
    table[random.random((count, alternatives)) < 0.25] = np.nan
    chances = np.nan_to_num(np.exp(table @ truth - offset * np.sum(truth)))
    chances /= chances.sum(1, keepdims=True)
    return table.astype(np.float32), np.array([random.choice(alternatives, p=row) for row in chances])


@pytest.mark.parametrize("truth", [(1.5, 0.5), (0.7, 0.0, 2.0), (0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_the_logit_is_as_likely_as_brute_force_makes_it(truth, offset):
    blocks = [choices(np.array(truth), count, width, count, offset) for count, width in ((150, 12), (80, 30))]
    tables, targets = zip(*blocks, strict=True)
    found = fit_logit(tables, targets)
    best = minimize(
        lambda w: -likelihood(tables, targets, w),
        np.ones(len(truth)),
        bounds=[(0, None)] * len(truth),
        method="L-BFGS-B",
    )
    assert (found >= 0).all()
    assert likelihood(tables, targets, found) > -best.fun - 1e-3
    np.testing.assert_allclose(found, best.x, atol=0.03)
    expected = np.maximum(truth, 0)
    np.testing.assert_allclose(found, expected, atol=0.5)


def test_the_units_of_a_part_go_into_its_weight():
    table, target = choices(np.array([1.0, 0.5]), 200, 15, 0)
    plain = fit_logit([table], [target])
    scaled = fit_logit([table * np.float32([100, 0.01])], [target])
    np.testing.assert_allclose(scaled * [100, 0.01], plain, rtol=0.02)


def test_what_is_not_there_is_as_if_it_were_cut_out():
    random = np.random.default_rng(1)
    short = random.normal(size=(90, 8, 2)).astype(np.float32)
    target = (short[:, :, 0] + random.gumbel(size=(90, 8))).argmax(1)
    long = np.full((90, 13, 2), np.nan, np.float32)
    places = np.array([0, 2, 3, 5, 8, 9, 10, 12])
    long[:, places] = short
    got, expected = fit_logit([long], [places[target]]), fit_logit([short], [target])
    np.testing.assert_allclose(got, expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 0.3, -2.995732, 1e4])
def test_a_part_that_says_the_same_of_all_takes_nothing_from_the_others(constant):
    """The popularity of items that nobody took, say."""
    table, target = choices(np.array([1.0]), 200, 15, 2)
    there = ~np.isnan(table[:, :, :1])
    flat = np.where(there, np.float32(constant), np.nan).astype(np.float32)
    alone = fit_logit([table], [target])
    both = fit_logit([np.concatenate([table, flat], axis=2)], [target])
    assert both[0] == pytest.approx(alone[0], rel=0.05)
    whole = np.nan_to_num(table)  # nothing is hidden
    alone = fit_logit([whole], [target])
    both = fit_logit([np.concatenate([whole, np.full_like(flat, constant)], axis=2)], [target])
    assert both[0] == pytest.approx(alone[0], rel=0.05)
    assert np.isfinite(both).all()


def test_few_cases_are_drawn_towards_the_logit_many_are_not():
    spread = np.array([2.0, 0.5])
    steady, peak = np.array([0.5, 0.0]), np.array([0.0, 8.0])
    for share in (0.0, 0.25, 1.0):
        mean = module._drawn_towards(steady, peak, spread, share)
        assert mean * spread == pytest.approx([share, 1 - share])
    assert module._drawn_towards(np.zeros(2), peak, spread, 0.9) is peak


def test_fallbacks_end_with_the_best_part_alone():
    cases, parts = task(4, count=300, n_items=60, signals=(2.0, 1.5, -1.5))
    found = blend(cases, parts)
    best = max(found.alone, key=lambda name: ndcg(found.alone[name]))
    chain = [found]
    while chain[-1].fallback is not None:
        chain.append(chain[-1].fallback)
    assert len(chain) == 3
    assert [name for name, weight in chain[-1].weights.items() if weight] == [best]
    assert chain[-1].ranks.tolist() == found.alone[best].tolist()
    assert all(ndcg(one.ranks) > ndcg(chain[-1].ranks) for one in chain[:-1])
    useless, nothing = task(0, signals=(0.0,))
    assert blend(useless, nothing).fallback is None


def test_the_logit_chooses_among_the_first_of_each_part(monkeypatch):
    """But what a part likes least of all; what is hidden is never there, and what two parts have among them once."""
    monkeypatch.setattr(blending, "FIRST", 5)
    cases, parts = task(5, count=300, n_items=40, signals=(1.0, 2.0))
    parts["part1"].table[:, 3:] = np.maximum(parts["part1"].table[:, 3:], 0.5)  # few are better than its worst
    cache = blending.ScoreCache.of(cases, parts, np.random.default_rng(0))
    tables, taken = (np.concatenate(one, axis=-1 if one[0].ndim == 1 else 1) for one in cache.told())
    hidden, told = cases.hidden(slice(0, 300)), 0
    for case, target in enumerate(cases.targets):
        there, expected = np.flatnonzero(~hidden[case]), set()
        for part in parts.values():
            own = part.table[case, there]
            best = there[np.argsort(-own, kind="stable")[:5]]
            expected |= set(best[part.table[case, best] > own.min()].tolist())
        if target not in expected:
            continue
        table, own = tables[:, told], taken[told]
        items = sorted(expected)
        assert table[:, ~np.isnan(table[0])].tolist() == [part.table[case, items].tolist() for part in parts.values()]
        assert table[:, own].tolist() == [part.table[case, target] for part in parts.values()]
        told += 1
    assert 50 < told == len(taken) < 250


def test_among_the_first_the_logit_finds_the_weights_by_which_people_choose(monkeypatch):
    """Of many items: what is left out of a choice by its scores alone does not bend it."""
    random, truth = np.random.default_rng(3), np.array([1.5, 0.5])
    scores = random.normal(size=(2, 3000, 300)).astype(np.float32)
    chances = np.exp(np.tensordot(truth, scores, 1))
    targets = [random.choice(300, p=row / row.sum()) for row in chances]
    cases = cases_of([[]] * 3000, targets, 300)
    found = logit(blending.ScoreCache.of(cases, {"a": Table(scores[0]), "b": Table(scores[1])}, random))
    assert found == pytest.approx(truth, abs=0.12)
