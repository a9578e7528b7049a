"""Item-based nearest neighbours, through the library `implicit`."""

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from molar_eval.models.base import Scores, Task
from molar_eval.models.tuning import Baseline, Scoring, Setting
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.interactions.matrix import to_csr


class ItemKNN(Baseline):
    """The sum of an item's similarities to those of a history (Sarwar et al. 2001, doi:10.1145/371920.372071).

    Each item keeps its ``neighbours`` most similar items, itself among them. ``cosine`` and ``tfidf`` columns are
    divided by ``√(Σ x² + shrink · mean x²)``, so that items taken by one and the same person are not taken for twins;
    with a shrink of 0 they and ``bm25`` are `implicit`'s recommenders of these names.
    """

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
        """Build the matrix of counts."""
        counts = to_csr(task.training).astype(np.float64)

        def fit(setting: Setting) -> Scoring:
            similarity = similarities(counts, **setting)

            def score(inputs: InteractionLog) -> Scores:
                scores: Scores = (to_csr(inputs) @ similarity).toarray()
                return scores

            return score

        return fit


def similarities(counts: csr_matrix, weighting: str, shrink: float, neighbours: int) -> csr_matrix:
    """Each item's most similar items, shape (n_items, n_items), float32.

    Args:
        counts: Users × items, float64.
        weighting: ``cosine``, ``tfidf`` or ``bm25``.
        shrink: Interactions of average weight that are added to every column's length; not for ``bm25``.
        neighbours: Entries per row.
    """
    from implicit.nearest_neighbours import all_pairs_knn, bm25_weight, tfidf_weight

    if weighting == "bm25":
        weighted = csr_matrix(bm25_weight(counts.T, K1=1.2, B=0.75).T)
    else:
        weighted = csr_matrix(tfidf_weight(counts.T).T) if weighting == "tfidf" else counts
        squares = weighted.power(2)
        lengths = np.sqrt(squares.sum(axis=0).A1 + shrink * squares.data.mean())
        weighted = csr_matrix(
            weighted @ diags_array(np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0))
        )
    return csr_matrix(all_pairs_knn(weighted, neighbours, show_progress=False), dtype=np.float32)
