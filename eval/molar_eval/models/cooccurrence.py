"""Ordered co-occurrence with decay: what is taken soon after what, counted; nothing is trained."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from molar_eval.models.base import Scores, Task
from molar_eval.models.histories import decayed
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.interactions.log import InteractionLog

_NEGLIGIBLE = 1e-6


class OrderedCooccurrence(Baseline):
    """Items that followed those of the history within a window, near and recent ones counting most.

    The weight of item j after item i is ``Σ decay ** (distance - 1) / √((n_i + shrink) (n_j + shrink))`` over all
    places where j follows i at a distance of at most ``window`` in a training history, n being the training counts. A
    history is read with weight ``memory ** places from its end``.
    """

    name = "co-occurrence"
    GRID = tuple(
        {"window": window, "decay": decay, "shrink": shrink, "memory": memory}
        for window, decay in ((10, 0.9), (10, 0.8), (5, 0.8))
        for shrink in (20, 100)
        for memory in (0.7, 0.8)
    )

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Counts are shared between settings with the same window and decay that follow each other."""
        counts = np.bincount(task.training.item, minlength=task.training.n_items)
        followed = lru_cache(maxsize=1)(lambda window, decay: followers(task.training, window, decay))

        def fit(setting: Setting) -> Scoring:
            scale = diags_array((1 / np.sqrt(counts + setting["shrink"])).astype(np.float32))
            weights = csr_matrix(scale @ followed(setting["window"], setting["decay"]) @ scale)
            memory = setting["memory"]
            last = int(np.ceil(np.log(_NEGLIGIBLE) / np.log(memory)))

            def score(inputs: InteractionLog) -> Scores:
                scores: Scores = (decayed(inputs, memory, last) @ weights).toarray()
                return scores

            return score

        return fit


def followers(log: InteractionLog, window: int, decay: float) -> csr_matrix:
    """How often item j came after item i, ``decay ** (distance - 1)`` each time, shape (n_items, n_items), float32."""
    shape = (log.n_items, log.n_items)
    user = log.user
    total = csr_matrix(shape, dtype=np.float32)
    for distance in range(1, min(window, len(log) - 1) + 1):
        same = user[distance:] == user[:-distance]
        pairs = log.item[:-distance][same], log.item[distance:][same]
        values = np.full(len(pairs[0]), decay ** (distance - 1), np.float32)
        total = total + csr_matrix((values, pairs), shape=shape)
    return total
