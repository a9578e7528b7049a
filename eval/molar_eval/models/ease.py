"""EASE as a baseline (Steck 2019, arXiv 1905.03375)."""

from collections.abc import Callable

import numpy as np

from molar_eval.models.base import Scores, Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.experts import linear
from molar_retrieval.experts.histories import binary
from molar_retrieval.interactions.log import InteractionLog


class EASE(Baseline):
    """``history @ B``, where B predicts each item from all others by ridge regression with a zero diagonal."""

    name = "EASE"
    GRID = tuple({"regularisation": value} for value in (20, 50, 100, 200, 500, 1000, 2000))

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Count co-occurrences.

        Raises:
            DataError: If more than 20,000 items have training interactions.
        """
        model = linear.EASECounts.of(task.training)

        def fit(setting: Setting) -> Scoring:
            weights = model.weights(setting["regularisation"])

            def score(inputs: InteractionLog) -> Scores:
                scores = np.zeros((inputs.n_users, inputs.n_items), np.float32)
                scores[:, model.columns] = binary(inputs)[:, model.columns] @ weights
                return scores

            return score

        return fit
