"""Cases: what is asked, and when."""

from dataclasses import replace

import numpy as np
from eval_model_tasks import log_of

from molar_eval.cases import Cases

TIMES = [10, 20, 30, 40, 5, 50, 60, 70, 80, 90]


def cases(**changes):
    """Three cases of two users: after two and three of four interactions, after four of six."""
    log = log_of([[1, 2, 3, 4], [5, 6, 7, 8, 9, 1]], times=TIMES, weights=np.arange(10))
    made = Cases.single(log, np.array([0, 0, 1]), np.array([2, 3, 4]), np.array([3, 4, 9]))
    return replace(made, **changes)


def test_every_case_is_asked_when_the_next_interaction_happened():
    assert cases().times().tolist() == [30, 40, 80]
    for log in (cases().inputs(), cases().seen()):
        assert log.asked_at.tolist() == [30, 40, 80]
        assert (log.asked_at.dtype, log.n_users) == (np.int64, 3)
        latest = log.timestamp[log.offsets[1:] - 1]
        assert (latest < log.asked_at).all(), "after all that the input holds"


def test_a_part_of_the_cases_is_asked_at_its_own_times():
    whole = cases().inputs()
    for chosen in (slice(0, 1), slice(1, 3), slice(2, 2)):
        part = cases().inputs(chosen)
        assert part.asked_at.tolist() == whole.asked_at[chosen].tolist()
        assert [part.history(u).tolist() for u in range(part.n_users)] == [
            whole.history(u).tolist() for u in range(3)[chosen]
        ]
    kept = cases().select(np.array([False, True, True]))
    assert kept.inputs().asked_at.tolist() == [40, 80]


def test_what_may_not_be_read_changes_no_time():
    readable = np.ones(30, bool)
    readable[[2, 8]] = False
    hidden = cases(readable=readable)
    assert hidden.inputs().item.tolist() == [1, 1, 3, 5, 6, 7]
    assert hidden.inputs().weight.tolist() == [0, 0, 2, 4, 5, 6]
    assert hidden.inputs().asked_at.tolist() == [30, 40, 80]
    assert hidden.seen().item.tolist() == [1, 2, 1, 2, 3, 5, 6, 7, 8]


def test_a_case_after_everything_is_asked_at_the_last_interaction():
    assert cases(length=np.array([4, 3, 6])).times().tolist() == [40, 40, 90]
