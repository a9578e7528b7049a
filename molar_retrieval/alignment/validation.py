"""How well user vectors rank what came next: full ranking, seen items hidden, ties against us."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_retrieval.interactions.log import InteractionLog

Matrix = npt.NDArray[np.float32]
_SCORES_PER_BLOCK = 8_000_000


@dataclass(frozen=True)
class Cases:
    """What to predict: for each user, the item that came after the log's history.

    Attributes:
        log: Histories, which are the input and whose items are hidden from the ranking.
        users: User rows, shape (C,).
        targets: Item rows, shape (C,).
        candidates: Whether an item may be recommended, shape (n_items,).
    """

    log: InteractionLog
    users: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Part:
    """One addend of a score: user vectors (C, d), item vectors (n_items, d)."""

    users: Matrix
    items: Matrix


def ranks(cases: Cases, parts: Sequence[Part], weights: Sequence[Sequence[float]]) -> npt.NDArray[np.int64]:
    """The rank of each target (1 is best) under each weighting of the parts; ties count against the target.

    A target that is no candidate, or that scores no better than every other item, gets the last rank.

    Args:
        cases: What to predict.
        parts: Addends of the score.
        weights: One weight per part, for each combination to be judged.

    Returns:
        Shape (len(weights), len(cases)).
    """
    result = np.empty((len(weights), len(cases)), np.int64)
    block = max(1, _SCORES_PER_BLOCK // max(1, len(cases.candidates)))
    for begin in range(0, len(cases), block):
        chosen = slice(begin, min(begin + block, len(cases)))
        scores = [part.users[chosen] @ part.items.T for part in parts]
        hidden = _hidden(cases, chosen)
        targets = cases.targets[chosen]
        rows = np.arange(len(targets))
        for number, combination in enumerate(weights):
            total = sum((np.float32(w) * s for w, s in zip(combination, scores, strict=True)), np.float32(0))
            assert isinstance(total, np.ndarray)
            total[hidden] = -np.inf
            own = total[rows, targets][:, None]
            better = (total >= own).sum(axis=1)
            result[number, chosen] = np.where(np.isfinite(own[:, 0]), better, len(cases.candidates))
    return result


def _hidden(cases: Cases, chosen: slice) -> npt.NDArray[np.bool_]:
    users = cases.users[chosen]
    hidden = np.repeat(~cases.candidates[None, :], len(users), axis=0)
    for row, user in enumerate(users):
        hidden[row, cases.log.history(int(user))] = True
    return hidden


def ndcg(rank: npt.NDArray[np.int64], k: int = 10) -> float:
    """Mean NDCG@k with one relevant item: ``1 / log2(1 + rank)`` where rank ≤ k (Järvelin and Kekäläinen 2002)."""
    return float(np.where(rank <= k, 1 / np.log2(1 + rank), 0).mean()) if len(rank) else 0.0


def recall(rank: npt.NDArray[np.int64], k: int = 10) -> float:
    """Share of targets among the first k."""
    return float((rank <= k).mean()) if len(rank) else 0.0
