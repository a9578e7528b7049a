"""Content neighbours: items whose text and photos are like those of the latest items; no interactions are read."""

from collections.abc import Callable

import numpy as np

from molar_eval.cases import Mask
from molar_eval.models.base import Scores, Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.errors import DataError
from molar_retrieval.experts import content
from molar_retrieval.interactions.log import InteractionLog


class ContentKNN(Baseline):
    """The cosine between an item's content vector and the decayed mean of those of the last ``last`` items.

    Items that nobody has taken are scored like all others; only an item without content cannot be scored.
    """

    name = "content kNN"
    GRID = content.GRID

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Take the vectors.

        Raises:
            DataError: If the suite has no content.
        """
        vectors = _content(task)

        def fit(setting: Setting) -> Scoring:
            def score(inputs: InteractionLog) -> Scores:
                scores: Scores = content.reading(inputs, vectors, setting["decay"], setting["last"]) @ vectors.T
                return scores

            return score

        return fit

    def scorable(self, task: Task) -> Mask:
        """Items with content, shape (n_items,)."""
        return np.asarray(_content(task).any(axis=1), bool)


def _content(task: Task) -> Scores:
    if task.content is None:
        raise DataError("content kNN needs content vectors, and there are none", "run `molar embed CATALOG` first")
    return task.content
