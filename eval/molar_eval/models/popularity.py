"""Popularity, of all time and of late: the same ranking for everybody who asks on the same day."""

from collections.abc import Callable

import numpy as np

from molar_eval.models.base import Scores, Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.errors import DataError
from molar_retrieval.experts.trend import HALF_LIVES, Trend
from molar_retrieval.interactions.log import InteractionLog


class Popularity(Baseline):
    """How often each item was taken; there is nothing to choose."""

    name = "popularity"
    GRID = ({},)

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Count the training interactions of each item."""
        counts = np.bincount(task.training.item, minlength=task.training.n_items).astype(np.float32)
        return lambda setting: lambda inputs: np.tile(counts, (inputs.n_users, 1))


class RecentPopularity(Baseline):
    """How often each item was taken before the day of the case, an interaction's weight halving with its age."""

    name = "recent popularity"
    GRID = tuple({"half_life_days": days} for days in HALF_LIVES if np.isfinite(days))

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Check that the log has times.

        Raises:
            DataError: If all training interactions have the same time, as where the log has none.
        """
        log = task.training
        if log.timestamp.min() == log.timestamp.max():
            raise DataError("recent popularity needs times, and the log has none", "leave this model out of the suite")

        def fit(setting: Setting) -> Scoring:
            trend = Trend.fit(log, setting["half_life_days"])

            def score(inputs: InteractionLog) -> Scores:
                if inputs.asked_at is None:
                    return np.tile(trend.now(), (inputs.n_users, 1))
                return trend.log_scores(inputs.asked_at)

            return score

        return fit
