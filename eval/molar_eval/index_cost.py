"""What the vector database costs in quality: the same queries against the served index and against an exact scan."""

import time

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases
from molar_eval.metrics.accuracy import accuracy
from molar_eval.models.base import Seen
from molar_eval.models.molar import MolarScorer
from molar_eval.ranking import rank_vectors
from molar_eval.report.schema import IndexCost
from molar_indexes.assemble import publish_generation
from molar_retrieval import columns, rng
from molar_retrieval.config import IndexSettings
from molar_retrieval.progress import SILENT, Progress

QUERIES = 1000


def index_cost(
    scorer: MolarScorer,
    cases: Cases,
    settings: IndexSettings,
    *,
    k: int,
    cutoffs: tuple[int, ...],
    seen: Seen = "hide",
    progress: Progress = SILENT,
) -> IndexCost:
    """Publish the scorer's workspace as a generation and send the cases' queries to its index.

    All items are candidates here, as the index has no others. Up to 1,000 cases are drawn with a fixed seed.

    Args:
        scorer: A trained molar with its workspace.
        cases: Whose inputs are the queries.
        settings: Of the index.
        k: Length of the lists.
        cutoffs: Of the metrics.
        seen: Whether items that a user had are hidden.
        progress: Told of the work.
    """
    if len(cases) > QUERIES:
        keep = np.zeros(len(cases), bool)
        keep[rng.generator(0, "index queries").choice(len(cases), QUERIES, replace=False)] = True
        cases = cases.select(keep)
    users = scorer.vectors(cases.inputs())
    everything = np.ones(cases.history.n_items, bool)
    exact = rank_vectors(cases, users, scorer.items, k=k, candidates=everything, seen=seen)
    history = cases.seen()
    served = np.full((len(cases), k), -1, np.int32)
    milliseconds = np.empty(len(cases))
    with publish_generation(scorer.workspace, settings, progress) as generation:
        for case, vector in enumerate(users):
            hidden = set(history.history(case).tolist()) if seen == "hide" else set()
            query = vector.tolist()
            began = time.perf_counter()
            hits = generation.index.search(columns.ALIGNED, query, k, exclude=hidden)
            milliseconds[case] = 1000 * (time.perf_counter() - began)
            served[case, : len(hits)] = [hit.row for hit in hits]
    found = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(served, exact.items, strict=True)]
    return IndexCost(
        backend=settings.backend,
        settings=settings.model_dump(exclude={"backend", "keep"}),
        queries=len(cases),
        recall=float(np.sum(found) / max(1, int((exact.items >= 0).sum()))),
        metrics=_means(cases, served, cutoffs),
        exact_metrics=_means(cases, exact.items, cutoffs),
        milliseconds=float(np.median(milliseconds)),
    )


def _means(cases: Cases, lists: npt.NDArray[np.int32], cutoffs: tuple[int, ...]) -> dict[str, float]:
    """Metrics of lists by the places in them."""
    hits = lists[cases.case_of_target] == cases.targets[:, None]
    ranks = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int64)
    return {name: float(values.mean()) for name, values in accuracy(ranks, cases.offsets, cutoffs).items()}
