"""Candidates refused by a log alone: how often rightly and wrongly, and what the log cannot tell.

``MOLAR_TEST_OFF_POLICY_RUNS=1000`` simulates so many logs; ``--log-cli-level=INFO`` tells what comes out.
"""

import logging
import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.off_policy import TargetPolicy, uniform_policy, whole_lists
from molar_eval.kpi.prelaunch import candidate_verdict
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.ids import IdMap

LOG = logging.getLogger(__name__)
RUNS = int(os.environ.get("MOLAR_TEST_OFF_POLICY_RUNS", "60"))
CERTAIN, POOL = 5, 6
PLACES = CERTAIN + 1
NEVER = CERTAIN + POOL
WORTH = np.array([0.2, 0.18, 0.16, 0.14, 0.12, 0.4, 0.1, 0.1, 0.02, 0.3, 0.1, 0.9])
CHANCES = np.array([0.25, 0.1, 0.15, 0.25, 0.15, 0.1])


def logged(random, users=250):
    """Lists of five certain items, and one of six that is drawn; people click .5 or 1.5 times as often as others."""
    user = np.repeat(np.arange(users), 1 + random.poisson(3, users))
    drawn = random.choice(POOL, len(user), p=CHANCES)
    lists = np.column_stack([np.tile(np.arange(CERTAIN), (len(user), 1)), CERTAIN + drawn])
    propensity = np.column_stack([np.ones((len(user), CERTAIN)), CHANCES[drawn]])
    keen = random.choice([0.5, 1.5], users)[user]
    clicks = random.random(lists.shape) < WORTH[lists] * keen[:, None]
    context = np.repeat(np.arange(len(user)), PLACES)
    ids = [IdMap([str(n) for n in range(count)]) for count in (len(user), users, NEVER)]
    codes = [np.asarray(values, np.int32) for values in (context, np.repeat(user, PLACES), lists.ravel())]
    return Impressions(*ids, *codes, propensity.ravel(), clicks.ravel().astype(float))


def listed(log, *items):
    return whole_lists(np.tile(np.array(items, int).reshape(1, -1), (len(log.contexts), 1)))


def last(log, item):
    return listed(log, *range(CERTAIN), item)


def judged(log, candidate, control, **options):
    return candidate_verdict(log, log.item, candidate, control, resamples=200, **options)


@pytest.mark.slow
def test_a_worse_candidate_is_refused_and_one_that_is_as_good_is_not():
    random, found = np.random.default_rng(1), {}
    for run in range(RUNS):
        log = logged(random)
        for name, pair in {"worse": (8, 5), "alike": (6, 7), "better": (5, 8), "never shown": (NEVER, 5)}.items():
            verdict = judged(log, *(last(log, item) for item in pair), seed=run)
            found.setdefault(name, Counter())[verdict.outcome] += 1
    for name, counts in found.items():
        LOG.info("%s: %s", name, {outcome: count / RUNS for outcome, count in counts.items()})
    assert found["worse"]["refuse"] >= 0.9 * RUNS
    assert found["alike"]["refuse"] <= 0.025 * RUNS + 3 * np.sqrt(0.025 * 0.975 * RUNS)
    assert found["better"]["pass"] >= 0.9 * RUNS
    assert found["better"]["refuse"] == 0
    assert found["never shown"] == {"cannot_tell": RUNS}


def test_the_interval_goes_to_what_is_not_known():
    """Of many requests its ends are the bounds: what was never shown earns between 0 and 1."""
    log = logged(np.random.default_rng(2), 6000)
    verdict = judged(log, last(log, NEVER), last(log, 5))
    assert verdict.outcome == "cannot_tell"
    assert verdict.missing == 1
    assert verdict.differing == 1
    assert verdict.low == pytest.approx(-WORTH[5] / PLACES, abs=0.005)
    assert verdict.high == pytest.approx((1 - WORTH[5]) / PLACES, abs=0.005)
    assert "100% of what it would show" in verdict.why[1]
    back = judged(log, last(log, 5), last(log, NEVER))
    assert back.low == pytest.approx((WORTH[5] - 1) / PLACES, abs=0.005)
    assert back.high == pytest.approx(WORTH[5] / PLACES, abs=0.005)
    assert judged(log, last(log, NEVER), last(log, 5), ceiling=0.3).outcome == "refuse", "it is known to be less"


def test_empty_lists_are_refused_and_a_harm_that_may_be_borne_is_not():
    log = logged(np.random.default_rng(3), 1000)
    nothing, control = whole_lists(np.full((len(log.contexts), 1), -1)), last(log, 5)
    verdict = judged(log, nothing, control, harm=0.5)
    assert verdict.outcome == "refuse"
    assert verdict.high < -0.5 * verdict.logged
    worse = last(log, 6)  # of .83 a request .3 less
    loss = (WORTH[5] - WORTH[6]) / (verdict.logged * PLACES)
    assert judged(log, worse, control, harm=loss / 2).outcome == "refuse"
    open_ = judged(log, worse, control, harm=loss)
    assert (open_.outcome, open_.why[1]) == ("cannot_tell", "the log is too small to tell")
    assert judged(log, worse, control, harm=loss * 1.5).outcome == "pass"


def test_policies_that_show_one_item_are_judged_alike():
    """A drawn policy against a drawn policy, on a log of one item a request."""
    log = logged(np.random.default_rng(4), 2000)
    log = log.select(np.ones(len(log.contexts), bool))
    rows = log.propensity < 1
    single = Impressions(
        log.contexts, log.users, log.items, log.context[rows], log.user[rows], log.item[rows], log.propensity[rows],
        log.reward[rows],
    )  # fmt: skip
    tiled = [np.tile(items, (len(log.contexts), 1)) for items in ([5, 9], [6, 8])]
    good, bad = (uniform_policy(items) for items in tiled)
    verdict = judged(single, bad, good)
    assert verdict.outcome == "refuse"
    assert verdict.low < (0.1 + 0.02 - 0.4 - 0.3) / 2 < verdict.high
    half = TargetPolicy(tiled[0], np.tile([0.9, 0.1], (len(log.contexts), 1)))
    assert judged(single, half, good).low < 0.4 * (0.4 - 0.3) < judged(single, half, good).high


def test_what_cannot_be_told_has_its_reason():
    log = logged(np.random.default_rng(5), 10)
    few = judged(log, last(log, 6), last(log, 5))
    assert (few.outcome, few.low) == ("cannot_tell", None)
    assert "effective sample size" in few.why[0]
    assert "users with a reward" in few.why[1]
    log = logged(np.random.default_rng(6), 500)
    same = judged(log, last(log, 5), last(log, 5))
    assert (same.outcome, same.differing) == ("pass", 0)
    wrong = judged(replace(log, propensity=log.propensity / 2), last(log, 6), last(log, 5))
    assert (wrong.outcome, len(wrong.why)) == ("cannot_tell", 2)
    assert "propensities are wrong" in wrong.why[0]
    assert same.to_dict()["outcome"] == "pass"
    with pytest.raises(DataError, match="negative"):
        judged(replace(log, reward=log.reward - 1), last(log, 6), last(log, 5))
    with pytest.raises(SettingsError, match="harm"):
        judged(log, last(log, 6), last(log, 5), harm=-0.1)


def test_some_contexts_of_a_log_keep_their_rows():
    log = logged(np.random.default_rng(7), 30)
    log = replace(log, number=np.arange(len(log)) + 5)
    chosen = np.arange(len(log.contexts)) % 3 == 1
    part = log.select(chosen)
    rows = np.flatnonzero(chosen[log.context])
    for name in ("contexts", "users", "items"):
        code = name[:-1]
        before = [getattr(log, name).id(int(n)) for n in getattr(log, code)[rows]]
        assert [getattr(part, name).id(int(n)) for n in getattr(part, code)] == before
    assert (part.reward == log.reward[rows]).all()
    assert (part.number == rows + 5).all()
    assert len(part.contexts) == chosen.sum()
    assert part.timestamp is None
