"""Two generations by what came after both: what the intervals say, and who is too few to say anything of."""

import numpy as np
import pytest

from molar_eval.version_comparison import ENOUGH, _compared


@pytest.mark.parametrize(("gain", "outcome"), [(0.3, "better"), (-0.3, "worse"), (0.0, "open")])
def test_a_planted_difference_is_found_and_none_is_not(gain, outcome):
    random = np.random.default_rng(1)
    before = random.uniform(0.3, 0.7, (200, 2))
    after = before + gain * random.uniform(0, 1, (200, 2)) + random.normal(0, 0.02, (200, 2)) * (gain == 0)
    groups = [{"all": "", "history": "new" if n < ENOUGH - 1 else "regular"} for n in range(200)]
    everybody, new, regular = _compared(groups, [before, after])
    assert (everybody.outcome, regular.outcome) == (outcome, outcome)
    assert (new.outcome, new.people, new.metrics) == ("too_few", ENOUGH - 1, ())
    ndcg = everybody.metrics[0]
    assert (ndcg.before, ndcg.after) == pytest.approx((before[:, 0].mean(), after[:, 0].mean()))
    assert ndcg.low < ndcg.after - ndcg.before < ndcg.high


def test_many_groups_make_each_interval_wider():
    random = np.random.default_rng(2)
    before, after = random.uniform(0, 1, (400, 2)), random.uniform(0, 1, (400, 2))
    (alone,) = _compared([{"all": ""}] * 400, [before, after])
    wider = _compared([{"all": "", "town": str(n % 8)} for n in range(400)], [before, after])[0]
    assert wider.metrics[0].high - wider.metrics[0].low > alone.metrics[0].high - alone.metrics[0].low
