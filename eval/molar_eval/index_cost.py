"""What the vector database costs in quality: the same queries against the served index and against an exact scan."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases
from molar_eval.metrics.accuracy import accuracy
from molar_eval.models.molar import MolarScorer
from molar_eval.ranking import rank_vectors
from molar_eval.report.schema import IndexCost
from molar_indexes.assemble import publish_generation
from molar_indexes.what_if import Variation, WhatIf
from molar_retrieval import columns, rng
from molar_retrieval.config import IndexSettings
from molar_retrieval.interactions import InteractionLog
from molar_retrieval.progress import SILENT, Progress

QUERIES = 1000
_VARIATIONS = {
    "graph, ef 256": Variation(),
    "graph, ef 64": Variation(ef=64),
    "scan, 8 bits": Variation(graph=False, quantisation="scalar"),
    "scan, 1 bit": Variation(graph=False, quantisation="binary"),
}
"""What a catalogue too large to be scanned whole would be served with."""


def index_costs(
    scorer: MolarScorer,
    cases: Cases,
    settings: IndexSettings,
    *,
    k: int,
    cutoffs: tuple[int, ...],
    progress: Progress = SILENT,
) -> list[IndexCost]:
    """Send the cases' queries to the scorer's published generation, and to indexes that save time or memory.

    All items are candidates here, as the index has no others, and items that users had are hidden. Up to 1,000 cases
    are drawn with a fixed seed.

    Args:
        scorer: A trained molar with its workspace.
        cases: Whose inputs are the queries.
        settings: Of the index.
        k: Length of the lists.
        cutoffs: Of the metrics.
        progress: Told of the work.
    """
    if len(cases) > QUERIES:
        keep = np.zeros(len(cases), bool)
        keep[rng.generator(0, "index queries").choice(len(cases), QUERIES, replace=False)] = True
        cases = cases.select(keep)
    users, seen = scorer.vectors(cases.inputs()), cases.seen()
    exact = rank_vectors(cases, users, scorer.items, k=k, candidates=np.ones(cases.history.n_items, bool)).items
    asked = _Asked(cases, users, seen, exact, cutoffs)
    with publish_generation(scorer.workspace, settings, progress) as generation:
        index = generation.index

        def served(query: list[float], hidden: list[int]) -> list[int]:
            return [hit.row for hit in index.search(columns.ALIGNED, query, k, exclude=hidden)]

        shown = settings.model_dump(exclude={"backend", "keep"})
        costs = [asked.cost(f"{settings.backend}, as served", shown, served)]
    for name, variation in _VARIATIONS.items():
        with TemporaryDirectory() as folder, WhatIf(Path(folder), scorer.items, variation) as other:
            costs.append(asked.cost(name, asdict(variation), partial(_searched, other, k)))
    return costs


def _searched(index: WhatIf, k: int, query: list[float], hidden: list[int]) -> list[int]:
    return index.search(query, k, hidden)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Queries with their exact answers."""

    cases: Cases
    users: npt.NDArray[np.float32]
    seen: InteractionLog
    exact: npt.NDArray[np.int32]
    cutoffs: tuple[int, ...]

    def cost(
        self, name: str, settings: Mapping[str, Any], search: Callable[[list[float], list[int]], list[int]]
    ) -> IndexCost:
        """Ask an index all queries."""
        found = np.full(self.exact.shape, -1, np.int32)
        milliseconds = np.empty(len(self.users))
        for case, vector in enumerate(self.users):
            hidden, query = np.unique(self.seen.history(case)).tolist(), vector.tolist()
            began = time.perf_counter()
            rows = search(query, hidden)
            milliseconds[case] = 1000 * (time.perf_counter() - began)
            found[case, : len(rows)] = rows
        same = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, self.exact, strict=True)]
        return IndexCost(
            backend=name,
            settings=dict(settings),
            queries=len(self.users),
            recall=float(np.sum(same) / max(1, int((self.exact >= 0).sum()))),
            metrics=_means(self.cases, found, self.cutoffs),
            exact_metrics=_means(self.cases, self.exact, self.cutoffs),
            milliseconds=float(np.median(milliseconds)),
        )


def _means(cases: Cases, lists: npt.NDArray[np.int32], cutoffs: tuple[int, ...]) -> dict[str, float]:
    """Metrics of lists by the places in them."""
    hits = lists[cases.case_of_target] == cases.targets[:, None]
    ranks = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int64)
    return {name: float(values.mean()) for name, values in accuracy(ranks, cases.offsets, cutoffs).items()}
