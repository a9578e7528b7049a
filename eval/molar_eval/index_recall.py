"""What approximate search costs in recall, and diversity in accuracy.

What is served, dense and sparse vectors and cold-start items merged into one list, is compared with the model's own
scores. A graph or quantisation concerns dense vectors alone, so variations of the index are compared on those of known
items.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from molar_eval.cases import Cases, Mask, Scores
from molar_eval.metrics import Lists, coverage, diversity, listed_accuracy
from molar_eval.models.ours import MolarScorer
from molar_eval.ranking import allowed, rank, rank_vectors
from molar_eval.report.schema import DiversityPoint, IndexCost
from molar_indexes.recommender import Recommender
from molar_indexes.records import sparse_rows
from molar_indexes.refresh import publish_generation
from molar_indexes.users import UserRecord
from molar_indexes.what_if import Variation, WhatIf
from molar_retrieval import columns
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.als import open_log
from molar_retrieval.models.towers.inference import UserVectors
from molar_retrieval.models.vectors import ItemVectors
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.diversity import Composition, diversify
from molar_retrieval.ranking.index_protocol import Index
from molar_retrieval.ranking.query import Query, ResolvedQuery
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

QUERIES = 1000
_VARIATIONS = {
    "aligned vectors alone, graph, ef 512": Variation(),
    "aligned vectors alone, graph, ef 64": Variation(ef=64),
    "aligned vectors alone, scan, 8 bits": Variation(graph=False, quantisation="scalar"),
    "aligned vectors alone, scan, 1 bit": Variation(graph=False, quantisation="binary"),
}
"""What a catalogue too large to be scanned whole would be served with."""
_OF_A_SERVER = {"shards", "replicas", "on_disk", "quantisation"}


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

    Everything is as in service: all items are candidates, items that users had are hidden, histories are read whole,
    also where the split leaves items out of inputs, and all cases are asked now, which is the moment that a
    generation's trend is of. Up to 1,000 cases are drawn with a fixed seed; lists have ``k`` items.
    """
    cases = replace(cases.drawn(QUERIES, "index queries"), readable=None)
    histories = replace(cases.inputs(), asked_at=None)
    users = scorer.model.users(histories, np.arange(len(cases)), progress)
    items = scorer.model.items(open_log(scorer.workspace))
    queries = _Queries(cases, [np.unique(histories.history(c)).tolist() for c in range(len(cases))], k, cutoffs)
    costs = _served(scorer, queries, histories, users, items, settings, progress)
    return costs + _variations(queries, users.dense, items)


@dataclass(frozen=True, eq=False)
class _Queries:
    """What is asked: cases whose targets the metrics look for, the item rows that each had, the lists' length."""

    cases: Cases
    hidden: Sequence[Sequence[int]]
    k: int
    cutoffs: tuple[int, ...]

    def timed(self, search: Callable[[int], Sequence[Any]]) -> tuple[list[Sequence[Any]], float]:
        """The answers to all cases, and the median time of one in milliseconds."""
        answers, milliseconds = [], np.empty(len(self.cases))
        for case in range(len(self.cases)):
            began = time.perf_counter()
            answers.append(search(case))
            milliseconds[case] = 1000 * (time.perf_counter() - began)
        return answers, float(np.median(milliseconds))

    def cost(
        self, name: str, settings: Mapping[str, Any], exact: Lists, rows: Sequence[Sequence[int]], milliseconds: float
    ) -> IndexCost:
        """Compare the item rows that an index answered with the exact lists, shape (C, k)."""
        found = np.full(exact.shape, -1, np.int32)
        for case, answer in enumerate(rows):
            found[case, : len(answer)] = answer
        same = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, exact, strict=True)]
        return IndexCost(
            backend=name,
            settings=dict(settings),
            queries=len(self.cases),
            recall=float(np.sum(same) / max(1, int((exact >= 0).sum()))),
            metrics=listed_accuracy(found, self.cases, self.cutoffs),
            exact_metrics=listed_accuracy(exact, self.cases, self.cutoffs),
            milliseconds=milliseconds,
        )


def _served(
    scorer: MolarScorer,
    queries: _Queries,
    histories: Interactions,
    users: UserVectors,
    items: ItemVectors,
    settings: IndexSettings,
    progress: Progress,
) -> list[IndexCost]:
    """The recommender's answers against the model's scores; of a server, the dense vectors alone as well.

    A small catalogue is ranked from the item store, so the whole answer would say nothing of the server.
    """
    everything: Mask = np.ones(queries.cases.history.n_items, bool)

    def scores(log: Interactions) -> Scores:
        return scorer.scores(replace(log, asked_at=None))

    exact = rank(queries.cases, scores, k=queries.k, candidates=everything, finish=scorer.finish).items
    dense, query = users.dense.tolist(), Query(k=queries.k)
    requests = [
        ResolvedQuery(query, UserRecord("", vector, histories.history(case), sparse), hidden=frozenset(had))
        for case, (vector, sparse, had) in enumerate(zip(dense, sparse_rows(users.sparse), queries.hidden, strict=True))
    ]
    with _published(scorer.workspace, settings, progress) as recommender:
        answers, milliseconds = queries.timed(lambda case: next(recommender.ranker.rank([requests[case]])).places)
        index = recommender.generation.index if settings.url else None
        nearest = None if index is None else queries.timed(_topping(index, dense, queries))
    rows = [[place.row for place in answer] for answer in answers]
    shown = settings.model_dump(include={"m", "ef_construct", "ef"} | (_OF_A_SERVER if settings.url else set()))
    backend = "server" if settings.url else settings.backend
    costs = [queries.cost(f"{backend}, as served", shown, exact, rows, milliseconds)]
    if nearest is not None:
        answers, milliseconds = nearest
        rows = [[row for row, _ in answer] for answer in answers]
        known = _exact_known(queries, users.dense, items)
        shown = {**shown, "vectors": "aligned", "items": "known"}
        costs.append(queries.cost("server, aligned vectors alone", shown, known, rows, milliseconds))
    return costs


def _topping(index: Index, users: Sequence[Sequence[float]], queries: _Queries) -> Callable[[int], Sequence[Any]]:
    return lambda case: index.top(columns.ALIGNED, users[case], queries.k, exclude=queries.hidden[case])


def _exact_known(queries: _Queries, users: Scores, items: ItemVectors) -> Lists:
    """The best known items by their dense vectors, scanned."""
    return rank_vectors(queries.cases, users, items.dense, k=queries.k, candidates=~items.newcomer).items


@contextmanager
def _published(workspace: Workspace, settings: IndexSettings, progress: Progress) -> Iterator[Recommender]:
    generation = publish_generation(workspace, settings, progress)
    if settings.url is None:
        with Recommender(workspace, generation) as recommender:
            yield recommender
        return
    generation.close()
    from molar_indexes.server.push import on_trial  # brings qdrant-client

    with on_trial(workspace, settings, progress) as served, Recommender(workspace, served) as recommender:
        yield recommender


def _variations(queries: _Queries, users: Scores, items: ItemVectors) -> list[IndexCost]:
    """Other indexes of the dense vectors of known items, against an exact scan of the same vectors."""
    known = np.flatnonzero(~items.newcomer)
    exact = _exact_known(queries, users, items)
    place = np.full(len(items.newcomer), -1)
    place[known] = np.arange(len(known))
    vectors, asked = np.ascontiguousarray(items.dense[known]), users.tolist()
    hidden = [[row for row in place[seen].tolist() if row >= 0] for seen in queries.hidden]
    costs = []
    for name, variation in _VARIATIONS.items():
        with TemporaryDirectory() as folder, WhatIf(Path(folder), vectors, variation) as index:
            answers, milliseconds = queries.timed(_searching(index, asked, queries.k, hidden))
        settings = {**asdict(variation), "vectors": "aligned", "items": "known"}
        costs.append(queries.cost(name, settings, exact, [known[answer].tolist() for answer in answers], milliseconds))
    return costs


def _searching(
    index: WhatIf, users: Sequence[Sequence[float]], k: int, hidden: Sequence[Sequence[int]]
) -> Callable[[int], list[int]]:
    return lambda case: index.search(users[case], k, hidden[case])


WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
CASES = 1000
_BATCH = 250


def trade_off(
    scorer: MolarScorer, cases: Cases, candidates: Mask, content: Scores, k: int, progress: Progress = SILENT
) -> list[DiversityPoint]:
    """Quality and variety of the lists of ``k`` items under each weight of diversity, see ``molar query --diversity``.

    At most 1,000 of the cases are drawn. ``content`` has rows of length 1 or 0, shape (n_items, f).
    """
    drawn = replace(cases.drawn(CASES, "diversity"), readable=None)
    lists = np.full((len(WEIGHTS), len(drawn), k), -1, np.int32)
    progress.start("diversity", len(drawn))
    for begin in range(0, len(drawn), _BATCH):
        block = slice(begin, min(begin + _BATCH, len(drawn)))
        inputs = drawn.inputs(block)
        users = scorer.model.users(inputs, np.arange(inputs.n_users))
        shown = allowed(drawn, block, candidates, "hide")
        scores = scorer.model.lifted(scorer.model.scores_of(users, inputs), shown)
        scores = scorer.model.reranked(scores, shown, users, inputs)
        for user, found in enumerate(scorer.model.candidates(scores, shown, users, inputs)):
            for number, weight in enumerate(WEIGHTS):
                choices = diversify(scores[user, found.rows], k, Composition(weight), content[found.rows])
                chosen = found.rows[[choice.candidate for choice in choices]]
                lists[number, begin + user, : len(chosen)] = chosen
            progress.advance(1)
    progress.finish()
    points = []
    for weight, own in zip(WEIGHTS, lists, strict=True):
        figures = listed_accuracy(own, drawn, (k,))
        point = DiversityPoint(
            weight=weight,
            cases=len(drawn),
            metrics={name: figures[name] for name in (f"ndcg@{k}", f"recall@{k}")},
            diversity=float(np.nanmean(diversity(own, content))),
            coverage=coverage(own, candidates),
        )
        points.append(point)
    return points
