"""Popularity: the same ranking for everybody."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from molar_eval.models.base import Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.errors import DataError
from molar_retrieval.interactions.log import InteractionLog

_DAY = 86_400


class Popularity(Baseline):
    """How often each item was taken; there is nothing to choose."""

    name = "popularity"
    GRID = ({},)

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Count the training interactions of each item."""
        counts = np.bincount(task.training.item, minlength=task.training.n_items)
        return lambda setting: _same_for_all(counts)


class RecentPopularity(Baseline):
    """How often each item was taken, an interaction's weight halving with its age.

    The moment from which age is counted does not matter: another one multiplies all scores by the same number.
    """

    name = "recent popularity"
    GRID = tuple({"half_life_days": days} for days in (1, 3, 7, 14, 30, 90, 180, 365))

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Check that the log has times.

        Raises:
            DataError: If all training interactions have the same time, as where the log has none.
        """
        log = task.training
        if log.timestamp.min() == log.timestamp.max():
            raise DataError("recent popularity needs times, and the log has none", "leave this model out of the suite")
        return lambda setting: _same_for_all(decayed_counts(log, setting["half_life_days"] * _DAY))


def decayed_counts(log: InteractionLog, half_life: float) -> npt.NDArray[np.float64]:
    """log2 of the sum of ``2 ** (t / half_life)`` over each item's interactions, counted from the log's last time.

    As a logarithm, because the sum itself falls out of the range of a float for items not taken in a long while.

    Args:
        log: Interactions with times.
        half_life: In seconds.

    Returns:
        Shape (n_items,), ``-inf`` for an item without interactions.
    """
    age = (log.timestamp - log.timestamp.max()) / half_life
    latest = np.full(log.n_items, -np.inf)
    np.maximum.at(latest, log.item, age)
    total = np.bincount(log.item, np.exp2(age - latest[log.item]), minlength=log.n_items)
    return latest + np.log2(np.maximum(total, 1))


def _same_for_all(values: npt.NDArray[np.number]) -> Scoring:
    row = values.astype(np.float32)
    return lambda inputs: np.tile(row, (inputs.n_users, 1))
