"""Statistics of running experiments: guardrails that hold at every look, means compared as another library does."""

import os
from math import exp, log, pi, sqrt

import numpy as np
import pytest
from pandas import DataFrame, concat
from scipy.integrate import quad
from scipy.stats import binom, binomtest, multivariate_normal, norm, poisson, ttest_rel
from tea_tasting import Experiment, Mean, RatioOfMeans

from molar_eval.experiments.ab_test import Moments, compare_means, compare_ratios, sample_ratio_p
from molar_eval.experiments.sequential import (
    ALPHA,
    RATIOS,
    ArmSums,
    LookTaken,
    boundaries,
    boundaries_at,
    conditional_power,
    crossing,
    difference_sequence,
    evidence_of_more,
    mixture_bound,
    next_look,
    planned_information,
    spent,
    tuned_to,
)
from molar_eval.experiments.switchback import compare_blocks
from molar_retrieval.experiments.assignment import HOUR, arm_of_block
from molar_retrieval.experiments.definition import Experiment as StagedExperiment

RUNS = int(os.environ.get("MOLAR_TEST_EXPERIMENT_RUNS", "400"))  # 4,000 for docs/experiments.md
TREATED = 2_000
"""Visitors of the treated arm within whom a harm must be seen."""


def at_most(rate, allowed):
    """Whether a simulated rate is not above one that is allowed, but for what chance explains."""
    return rate <= allowed + 3 * sqrt(allowed * (1 - allowed) / RUNS)


def test_the_bound_is_where_the_mixture_reaches_one_over_alpha():
    """The mixture of likelihood ratios over half a normal, integrated numerically."""
    for grown, tuned, alpha in ((5.0, 2.0, 0.01), (0.1, 3.0, 0.05), (400.0, 1.0, 0.2)):
        bound = float(mixture_bound(grown, tuned, alpha))

        def weighed(drift, grown=grown, tuned=tuned, bound=bound):
            return 2 * sqrt(tuned / (2 * pi)) * exp(drift * bound - drift**2 * (grown + tuned) / 2)

        peak = bound / (grown + tuned)
        assert quad(weighed, 0, 10 * peak + 10, points=[peak], limit=200)[0] == pytest.approx(1 / alpha, rel=1e-6)


def test_the_bound_is_narrowest_at_the_people_that_it_is_tuned_to():
    grown = np.linspace(0.2, 5, 481) * 1_000 * 0.21 * 1.25
    width = mixture_bound(grown, tuned_to(1_000, 0.21, 0.25)) / np.sqrt(grown)
    assert grown[width.argmin()] == pytest.approx(1_000 * 0.21 * 1.25, rel=0.02)
    assert width.min() == pytest.approx(3.35, abs=0.01)
    assert np.interp(1_000 * 0.21 * 1.25 * 4, grown, width) < 1.06 * width.min()


def visitors(rng, share, lift, ratio, people=TREATED):
    """Bounds after each treated visitor, of whom one comes to 1 / ``ratio`` of control; a share of them clicks."""
    others = round(1 / ratio)
    treated = np.cumsum(rng.random((RUNS, people)) < share * (1 + lift), axis=1, dtype=float)
    control = np.cumsum(rng.binomial(others, share, (RUNS, people)), axis=1, dtype=float)
    count = np.arange(1.0, people + 1)
    return difference_sequence(
        ArmSums.of_shares(count * others, control),
        ArmSums.of_shares(count, treated),
        tuned=tuned_to(people, 0.21, ratio),
    )


@pytest.mark.parametrize(("share", "ratio"), [(0.35, 1), (0.2, 1 / 19)])
def test_a_fifth_fewer_clicks_is_seen_within_two_thousand_visitors(share, ratio):
    """With as many people in control, and with everybody who is not treated."""
    harmed = visitors(np.random.default_rng(0), share, -0.2, ratio)
    assert harmed.less(0.1 * share).any(axis=1).mean() >= 0.9


@pytest.mark.parametrize(("share", "ratio"), [(0.3, 1), (0.2, 1 / 19), (0.02, 1), (0.02, 1 / 19)])
def test_guardrails_are_quiet_where_nothing_is_wrong(share, ratio):
    same = visitors(np.random.default_rng(1), share, 0.0, ratio)
    assert at_most(same.less().any(axis=1).mean(), ALPHA)
    assert at_most(same.more().any(axis=1).mean(), ALPHA)


def returning(rng, people, steps, lift=0.0):
    """Sums after each step of an arm whose people come one by one, come again, and click as each of them is wont to."""
    first = np.sort(rng.integers(0, steps, people))
    clicks = rng.poisson(rng.gamma(0.5, 0.1 * (1 + lift), people)[:, None], (people, steps)).astype(float)
    here = np.arange(steps) >= first[:, None]
    sums = np.cumsum(clicks * here, axis=1)
    return ArmSums(here.sum(axis=0).astype(float), sums.sum(axis=0), (sums**2).sum(axis=0))


def test_people_who_come_again_raise_no_more_false_alarms():
    rng, alarms = np.random.default_rng(2), []
    for _ in range(RUNS):
        control, treated = returning(rng, 900, 40), returning(rng, 300, 40)
        same = difference_sequence(control, treated, tuned=tuned_to(300, 2.0, 1 / 3))
        alarms.append([same.less().any(), same.more().any()])
    assert at_most(np.mean(alarms, axis=0).max(), ALPHA)


def test_of_few_people_nothing_is_said():
    bounds = difference_sequence(ArmSums.of(np.ones(500)), ArmSums.of(np.zeros(24)), tuned=1.0)
    assert (bounds.difference, bounds.low, bounds.high) == (-1, -np.inf, np.inf)
    assert not bounds.less()
    assert difference_sequence(ArmSums.of(np.ones(500)), ArmSums.of(np.zeros(25)), tuned=1.0).less()


def test_evidence_is_worth_one_on_average_where_nothing_is_wrong():
    """All outcomes of eight events of which each falls to the treated arm with a chance of 30 / 100."""
    hits = np.arange(9)
    values = [evidence_of_more([8 - hit], [hit], [70], [30])[0] for hit in hits]
    assert binom.pmf(hits, 8, 0.3) @ np.exp(values) == pytest.approx(1.0, abs=1e-12)
    many = [evidence_of_more([0], [hit], [0], [30])[0] for hit in (0, 5)]
    assert many == pytest.approx([0, 0])  # without anybody in control there is nothing to compare with
    shares = [30 * ratio / (70 + 30 * ratio) for ratio in RATIOS]
    by_hand = np.mean([binom.pmf(3, 8, share) for share in shares]) / binom.pmf(3, 8, 0.3)
    assert values[3] == pytest.approx(log(by_hand))


def test_errors_are_seen_soon_and_a_failure_of_both_arms_is_none():
    rng, minutes = np.random.default_rng(3), 300
    others, own = rng.poisson(95, (RUNS, minutes)), rng.poisson(5, (RUNS, minutes))
    rate = np.where((np.arange(minutes) > 60) & (np.arange(minutes) < 70), 0.5, 0.002)  # ten minutes without a database
    alarms = {
        (more, tolerated): np.mean([
            evidence_of_more(*row, tolerated=tolerated).max() >= -log(ALPHA)
            for row in zip(rng.binomial(others, rate), rng.binomial(own, np.minimum(rate * more, 1)), others, own,
                           strict=True)
        ])
        for more, tolerated in ((1, 1.0), (2, 2.0), (6, 1.0))
    }  # fmt: skip
    assert at_most(alarms[1, 1.0], ALPHA)
    assert at_most(alarms[2, 2.0], ALPHA)
    assert alarms[6, 1.0] > 0.95


def test_uneven_arms_are_told_from_chance():
    assert sample_ratio_p([5_000, 5_000], [1, 1]) == 1
    assert sample_ratio_p([0, 0], [0.05, 0.95]) == 1
    assert sample_ratio_p([821_588, 815_482], [1, 1]) < 0.001  # Kohavi et al. 2020, chapter 21
    assert sample_ratio_p([600, 9_400], [0.05, 0.95]) < 0.001
    assert sample_ratio_p([500, 9_500], [0.05, 0.95]) == 1
    assert sample_ratio_p([900, 1_200, 1_500], [1, 1, 1]) < 0.001
    with pytest.raises(ValueError, match="two arms or more"):
        sample_ratio_p([3, 4], [1, 0])


def test_a_ratio_that_is_looked_at_all_the_time_raises_no_more_false_alarms():
    rng, naive, always = np.random.default_rng(4), [], []
    for _ in range(RUNS // 4):
        treated = np.cumsum(rng.binomial(20, 0.05, 200))
        people = [(one, 20 * (look + 1) - one) for look, one in enumerate(treated)]
        naive.append(min(binomtest(one[0], sum(one), 0.05).pvalue for one in people[::20]) < 0.05)
        always.append(min(sample_ratio_p(one, [0.05, 0.95]) for one in people[::4]) < 0.05)
    assert np.mean(naive) > 0.1
    assert at_most(np.mean(always), 0.05)
    assert sample_ratio_p([600, 9_400], [0.05, 0.95]) < 0.001
    assert sample_ratio_p([500, 9_500], [0.05, 0.95]) == 1


def log_of(rng, people, lift=0.0):
    """Clicks, lists, and both before, of people who differ."""
    taste = rng.gamma(2.0, 1.0, people)
    lists, before = 1 + rng.poisson(3 * taste), 1 + rng.poisson(5 * taste)
    return rng.binomial(lists, 0.2 * (1 + lift)), lists, rng.binomial(before, 0.2), before


def of_another_library(metric, control, treated, names):
    """The same by tea-tasting."""
    frames = [
        DataFrame(dict(zip(names, arm, strict=True))).assign(variant=n) for n, arm in enumerate((control, treated))
    ]
    return Experiment(found=metric).analyze(concat(frames), control=0)["found"]


@pytest.mark.parametrize(
    ("kind", "columns"), [("mean", [0]), ("mean", [0, 2]), ("ratio", [0, 1]), ("ratio", [0, 1, 2, 3])]
)
def test_means_and_ratios_are_those_of_tea_tasting(kind, columns):
    rng, names = np.random.default_rng(5), ["clicks", "lists", "clicks_before", "lists_before"]
    control, treated = log_of(rng, 4_000), log_of(rng, 700, 0.1)
    used = [names[column] for column in columns]
    metric = (Mean if kind == "mean" else RatioOfMeans)(*used, use_t=False, equal_var=False)
    theirs = of_another_library(metric, control, treated, names)
    arms = [Moments.of(*(arm[column] for column in columns)) for arm in (control, treated)]
    ours = (compare_means if kind == "mean" else compare_ratios)(*arms)
    low, high = ours.interval(norm.isf(0.025))
    assert [ours.control, ours.treatment, ours.difference, low, high, ours.lift, ours.p, ours.statistic] == (
        pytest.approx([
            theirs.control, theirs.treatment, theirs.effect_size, theirs.effect_size_ci_lower,
            theirs.effect_size_ci_upper, theirs.rel_effect_size, theirs.pvalue, theirs.statistic,
        ], rel=1e-9)
    )  # fmt: skip
    theirs_lift = theirs.rel_effect_size_ci_lower, theirs.rel_effect_size_ci_upper  # by the delta method of logarithms
    assert ours.lift_interval(norm.isf(0.025)) == pytest.approx(theirs_lift, abs=0.004)
    assert (ours.explained > 0) == (columns in ([0, 2], [0, 1, 2, 3]))


def test_an_interval_of_the_lift_leaves_out_nothing_exactly_where_that_of_the_difference_does():
    rng = np.random.default_rng(6)
    control, treated = (Moments.of(rng.exponential(size, 60)) for size in (10.0, 14.0))
    ours = compare_means(control, treated)
    for bound in (ours.statistic - 1e-6, ours.statistic + 1e-6):
        assert (ours.interval(bound)[0] > 0) == (ours.lift_interval(bound)[0] > 0)
    assert ours.lift_interval(12.0) is None  # at a first look control cannot be told from nothing
    assert not ours.at_most(0.5, 12.0)
    assert ours.at_most(5.0, 1.96)


def test_moments_add_up_however_they_were_divided():
    rng = np.random.default_rng(7)
    figures = rng.gamma(1.0, 5.0, (2, 300)) + 1e6
    whole = Moments.of(*figures)
    pieces = Moments.of(*figures[:, :10]) + Moments.of(*figures[:, 10:10]) + Moments.of(*figures[:, 10:])
    assert pieces.people == 300
    assert pieces.covariance == pytest.approx(np.cov(figures), rel=1e-9)
    assert pieces.mean == pytest.approx(whole.mean)
    small = figures - 1e6
    sums = Moments.of_sums(300, small.sum(axis=1), small @ small.T)
    assert sums.covariance == pytest.approx(np.cov(small), rel=1e-9)


def test_what_nobody_did_has_no_error_and_tells_nothing():
    nobody = Moments.of(np.zeros(50))
    ours = compare_means(nobody, nobody)
    assert (ours.statistic, ours.information, ours.lift, ours.lift_interval(2.0)) == (0, 0, None, None)
    with pytest.raises(ValueError, match="nothing to divide by"):
        compare_ratios(Moments.of(np.ones(5), np.zeros(5)), Moments.of(np.ones(5), np.ones(5)))
    with pytest.raises(ValueError, match="3 figures"):
        compare_ratios(Moments.of(*np.ones((3, 5))), Moments.of(*np.ones((3, 5))))


def test_a_mean_is_compared_as_by_its_sums():
    rng = np.random.default_rng(8)
    one, other = poisson.rvs(2, size=400, random_state=rng), poisson.rvs(3, size=200, random_state=rng)
    sums = ArmSums.of(one)
    assert sums.variance == pytest.approx(np.var(one, ddof=1))
    bounds = difference_sequence(sums, ArmSums.of(other), tuned=1.0)
    assert bounds.difference == pytest.approx(compare_means(Moments.of(one), Moments.of(other)).difference)


def jointly(bounds, shares):
    """The chance that a motion stays within bounds, by the multivariate normal distribution of scipy."""
    covariance = np.minimum.outer(shares, shares) / np.sqrt(np.outer(shares, shares))
    there = multivariate_normal(cov=covariance, abseps=1e-7, releps=1e-7, maxpts=2_000_000, seed=1)
    return there.cdf(np.array(bounds), lower_limit=-np.array(bounds))


def test_bounds_at_looks_that_come_when_they_do_spend_alpha_exactly():
    shares, looks = [0.2, 0.31, 0.7, 0.95], []
    for share in shares:
        looks.append(next_look(looks, share, last=share == shares[-1]))
        stays = jointly([look.bound for look in looks], [look.share for look in looks])
        assert 1 - stays == pytest.approx(looks[-1].spent, abs=2e-6)
    assert [look.spent for look in looks[:3]] == pytest.approx([2 * spent(share, 0.05) for share in shares[:3]])
    assert looks[-1].spent == 0.05


def test_looks_that_are_equally_spaced_are_those_of_a_plan():
    looks = []
    for look in range(1, 6):
        looks.append(next_look(looks, look / 5))
    assert [look.bound for look in looks] == pytest.approx(boundaries(5), abs=1e-9)
    assert crossing([look.bound for look in looks], 0.0, [look.share for look in looks]) == pytest.approx(0.05)
    close = [look / 100 for look in range(1, 101)]
    assert crossing(boundaries_at(close), 0.0, close) == pytest.approx(0.05, abs=1e-9)


def test_a_look_without_news_is_none_and_nothing_is_spent_beyond_alpha():
    first = next_look([], 0.5)
    assert next_look([first], 0.505) is None
    assert next_look([first], 0.4) is None
    assert next_look([], 0.009) is None
    over = next_look([first], 1.2)
    assert over.spent == pytest.approx(0.05)
    assert next_look([first, over], 1.3).bound == 12
    assert next_look([first], 0.7) == next_look([LookTaken(*vars(first).values())], 0.7)  # as after a restart


def test_what_is_seen_half_way_says_how_likely_the_end_is():
    """Jennison and Turnbull 2000, section 10.2: by simulation of the second half."""
    rest = np.random.default_rng(9).normal(2.8 * 0.5, sqrt(0.5), 400_000)
    ends = 0.6 * sqrt(0.5) + rest
    likely = conditional_power(0.6, 0.5, bound=1.97, drift=2.8)
    assert likely == pytest.approx((np.abs(ends) > 1.97).mean(), abs=0.003)
    assert conditional_power(0.6, 0.5, 1.97, drift=0.6 / sqrt(0.5)) < likely
    assert (conditional_power(2.0, 1.0, 1.97, 0.0), conditional_power(-2.0, 1.1, 1.97, 0.0)) == (1, 1)
    assert conditional_power(1.9, 1.0, 1.97, 9.0) == 0


def test_the_information_that_was_planned_gives_the_power():
    for looks in (1, 4):
        drift = 0.3 * sqrt(planned_information(0.3, looks=looks))
        assert crossing(boundaries(looks), drift) == pytest.approx(0.8, abs=1e-6)


def blocks(rng, salt, hours, weeks, lift=0.0):
    """Blocks from some week on: numbers, arms, what was spent, who came; weekdays, hours and days differ."""
    experiment = StagedExperiment("x", salt=salt, unit="time", block_hours=hours)
    number = np.arange(weeks * 168 // hours) + 2_900 * (168 // hours)
    treated = np.array([arm_of_block(experiment, int(one) * hours * HOUR) == "treatment" for one in number])
    day = number * hours // 24
    came = rng.poisson(
        hours * (4 + 3 * (day % 7 >= 5)) * rng.gamma(50, 1 / 50, 1 + day.max() - day.min())[day - day[0]]
    )
    each = 2.0 + (day % 7) / 3 + rng.normal(0, 0.2, 1 + day.max() - day.min())[day - day[0]]
    spent_then = came * each * (1 + lift * treated) * rng.gamma(60, 1 / 60, len(number))
    return number, treated, spent_then, came


def test_a_switchback_compares_each_time_of_the_week_with_itself():
    rng = np.random.default_rng(10)
    number, treated, total, came = blocks(rng, "a", 24, 4)
    assert {int(treated[number % 7 == day].sum()) for day in range(7)} == {2}
    ours = compare_blocks(number, treated, total, np.ones(28), 24)
    order = np.lexsort([number % 7, number // 14])
    alone = ttest_rel(*(total[order][treated[order] == arm] for arm in (True, False)))
    assert (ours.p, *ours.interval()) == pytest.approx((alone.pvalue, *alone.confidence_interval(0.95)))
    assert (ours.pairs, ours.days, ours.left_out) == (14, 14, 0)
    part = compare_blocks(number[:18], treated[:18], total[:18], came[:18], 24)
    assert (part.pairs, part.days, part.left_out) == (7, 7, 4)


@pytest.mark.parametrize("hours", [24, 3])
def test_a_switchback_is_right_as_often_as_it_says(hours):
    rng, wrong, covered = np.random.default_rng(11), [], []
    effect = 0.2 * np.average(2 + np.arange(7) / 3, weights=[4] * 5 + [7] * 2)
    for run in range(RUNS):
        wrong.append(compare_blocks(*blocks(rng, f"{run}", hours, 4), hours).p < 0.05)
        low, high = compare_blocks(*blocks(rng, f"{run}", hours, 4, 0.2), hours).interval()
        covered.append(low <= effect <= high)
    assert at_most(np.mean(wrong), 0.05)
    assert at_most(1 - np.mean(covered), 0.05)


def test_blocks_without_a_counterpart_tell_nothing():
    nothing = compare_blocks([2, 3], [True, False], [5.0, 6.0], [1, 1], 24)
    assert (nothing.error, nothing.p, nothing.interval(), nothing.pairs, nothing.left_out) == (None, None, None, 0, 2)
    one = compare_blocks([0, 7], [True, False], [5.0, 6.0], [1, 1], 24)
    assert (one.difference, one.error, one.pairs) == (-1.0, None, 1)
    with pytest.raises(ValueError, match="whole number of blocks"):
        compare_blocks([0], [True], [1.0], [1], 25)
    with pytest.raises(ValueError, match="twice"):
        compare_blocks([0, 0], [True, False], [1.0, 1.0], [1, 1], 24)


def test_bounds_of_spotify_confidence_spend_what_they_are_to_spend():
    """As its version 4.1.0 prints them for the spending functions .05 t² and .05 t³, each side for itself."""
    shares = [0.2, 0.31, 0.7, 0.95]
    for power, bounds in (
        (2, [3.090232306, 2.916994676, 2.301338464, 2.124778494]),
        (3, [3.540083799, 3.229076317, 2.402473574, 2.088423673]),
    ):
        for looks in range(1, 5):
            expected = 0.05 * shares[looks - 1] ** power
            assert crossing(bounds[:looks], 0.0, shares[:looks]) == pytest.approx(expected, abs=4e-6)
