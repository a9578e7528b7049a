"""Ordered co-occurrence with decay as a baseline."""

from collections.abc import Callable
from functools import lru_cache, partial

from molar_eval.models.base import Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.experts.cooccurrence import cooccurrence, followers
from molar_retrieval.experts.histories import reach
from molar_retrieval.experts.item_item import ItemItemWeights


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
        followed = lru_cache(maxsize=1)(partial(followers, task.training))

        def fit(setting: Setting) -> Scoring:
            counts = followed(setting["window"], setting["decay"])
            weights = cooccurrence(task.training, counts, setting["shrink"], ordered=True)
            return ItemItemWeights(self.name, weights, setting["memory"], reach(setting["memory"])).scores

        return fit
