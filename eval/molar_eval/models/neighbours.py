"""Item-based nearest neighbours as a baseline."""

from collections.abc import Callable

from molar_eval.models.base import Scores, Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.experts.linear import item_knn
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.interactions.matrix import to_csr


class ItemKNN(Baseline):
    """The sum of an item's similarities to those of a history (Sarwar et al. 2001, doi:10.1145/371920.372071)."""

    name = "item-kNN"
    GRID = (
        *({"weighting": "cosine", "shrink": shrink, "neighbours": count} for shrink in (0, 20) for count in (5, 200)),
        *(
            {"weighting": "tfidf", "shrink": shrink, "neighbours": count}
            for shrink in (0, 20)
            for count in (5, 20, 200)
        ),
        *({"weighting": "bm25", "shrink": 0, "neighbours": count} for count in (20, 200)),
    )

    def prepare(self, task: Task, seed: int) -> Callable[[Setting], Scoring]:
        """Settings share nothing."""

        def fit(setting: Setting) -> Scoring:
            similarity = item_knn(task.training, **setting)

            def score(inputs: InteractionLog) -> Scores:
                scores: Scores = (to_csr(inputs) @ similarity).toarray()
                return scores

            return score

        return fit
