"""What it costs to try new items, and what they have of it, measured on validation cases by the rule that answers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.alignment.user_encoder import UserVectors
from molar_retrieval.alignment.validation import ValidationCases, gains, sample
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ranking.candidates import Candidates
from molar_retrieval.ranking.exploration import POOL, explored
from molar_retrieval.ranking.features import moves
from molar_retrieval.ranking.index_protocol import SparseVector, Vector
from molar_retrieval.ranking.item_store import Emerging
from molar_retrieval.ranking.places import TOP
from molar_retrieval.ranking.query import Query
from molar_retrieval.ranking.request import Exploration, RankingRequest
from molar_retrieval.ranking.searched import source_of
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

_CASES = 2000


@dataclass(frozen=True, eq=False)
class _Asker:
    vector: Vector
    sparse: SparseVector
    history: npt.NDArray[np.integer]
    times: tuple[int, ...] = ()
    last: int = 0


def cost(model: AlignedModel, cases: ValidationCases, plan: Exploration, emerging: Emerging | None) -> dict[str, Any]:
    """What up to 2,000 validation cases say of the places for new items: figures without and with them.

    Without, the list has known items only. ``new`` is the number of newcomers and emerging items. Of each other figure
    there are two: ``ndcg``, NDCG@10 of all cases, with ``error``, half a 95 % interval of the difference, paired by
    case; ``recall``, the share of the cases whose target is new (``new_cases``) that have it among the first ten;
    ``share``, that of new items in the first ten places, and ``shown``, how many different ones stand there.
    """
    chosen = sample(cases, _CASES, rng.generator(0, "cost of exploring"))
    new = ~model.known
    if emerging is not None:
        new[emerging.rows] = True
    count, asked = len(chosen), new[chosen.targets]
    ranks, shown = np.full((2, count), TOP + 1), np.zeros((2, len(new)), np.int64)
    for case, lists in enumerate(_lists(model, chosen, plan, emerging)):
        for number, rows in enumerate(lists):
            shown[number, rows] += 1
            place = np.flatnonzero(rows == chosen.targets[case])
            ranks[number, case] = place[0] + 1 if len(place) else TOP + 1
    gained, found = gains(ranks), ranks[:, asked] <= TOP
    return {
        "cases": count,
        "new": int(new.sum()),
        "ndcg": (gained.sum(axis=1) / max(1, count)).tolist(),
        "error": float(1.96 * np.diff(gained, axis=0).std() / np.sqrt(count)) if count else 0.0,
        "new_cases": int(asked.sum()),
        "recall": (found.sum(axis=1) / max(1, int(asked.sum()))).tolist(),
        "share": (shown[:, new].sum(axis=1) / np.maximum(1, shown.sum(axis=1))).tolist(),
        "shown": np.count_nonzero(shown[:, new], axis=1).tolist(),
    }


def _lists(
    model: AlignedModel, cases: ValidationCases, plan: Exploration, emerging: Emerging | None
) -> Iterator[tuple[Rows, Rows]]:
    """The first ten of each case, without and with places for new items."""
    table = replace(model.table, emerging=emerging)
    for block in cases.blocks():
        log, hidden = cases.histories(block), cases.hidden(block)
        users = model.users(log, np.arange(log.n_users))
        scores = model.scores_of(users, log)
        dense, sparse = table.products(users.dense), users.sparse.sorted_indices()
        for user, known in enumerate(_ranked(model, scores, ~hidden & model.known, users, log)):
            span = slice(sparse.indptr[user], sparse.indptr[user + 1])
            asker = _Asker(users.dense[user], SparseVector(sparse.indices[span], sparse.data[span]), log.history(user))
            request = RankingRequest(Query(), asker, hidden=frozenset(np.flatnonzero(hidden[user]).tolist()))
            new = source_of(None, table, request, dense[user]).new(POOL)
            tried = explored(known, new, plan, f"case {block.start + user}", TOP)
            yield known.rows[:TOP], tried.rows[:TOP]


def _ranked(
    model: AlignedModel, scores: Matrix, allowed: Mask, users: UserVectors, log: Interactions
) -> list[Candidates]:
    """The candidates of each history after the second stage, if there is one."""
    lists = list(model.candidates(scores, allowed, users, log))
    if model.reranker is None:
        return lists
    every = moves(model.table, model.reranker, lists, [log.history(user) for user in range(log.n_users)])
    return [one.reranked(moved) if len(one) else one for one, moved in zip(lists, every, strict=True)]
