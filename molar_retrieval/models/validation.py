"""How well scores rank what came next: full ranking, seen items hidden, ties against us."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.data.interactions import Holdout, Interactions
from molar_retrieval.workspace.tensors import Mask, Matrix, Ranks, Rows
from molar_retrieval.workspace.threads import each

SCORES_PER_BLOCK = 4_000_000
WITHHELD = 0.1
"""Share of the known items that plays cold-start items."""
_RANKED, _FEWEST = 3_000_000_000, 1000
"""Scores of all cases by one part, at most, which takes minutes; but so many cases are always ranked."""
_MOST_READ = 10_000_000
"""Training interactions in which cases are looked for, and those in the histories of all of these, at most."""


@dataclass(frozen=True, eq=False)
class ValidationCases:
    """What to predict: for each user, the item that came after the log's history, which is hidden from the ranking.

    User rows, target rows and times of asking, in seconds, have shape (C,), whether an item may be recommended
    (n_items,). What its user had in the log or by then is hidden, unless it is ``shown``. ``known`` has one history per
    case; None: those of the log. In ``folder`` lie scores that memory has no room for; None: nowhere, they are held.
    """

    log: Interactions
    users: Rows
    targets: Rows
    candidates: Mask
    times: npt.NDArray[np.int64]
    shown: bool = False
    known: Interactions | None = None
    folder: Path | None = None

    @classmethod
    def of(cls, holdout: Holdout) -> "ValidationCases":
        """The held-out interactions with what was new to their users, all items being candidates."""
        new = np.flatnonzero(~holdout.again)
        return replace(cls.with_repeats(holdout).select(new), shown=False)

    @classmethod
    def with_repeats(cls, holdout: Holdout) -> "ValidationCases":
        """All of them, nothing being hidden."""
        users, targets = holdout.users.astype(np.int64), holdout.targets.astype(np.int64)
        everything = np.ones(holdout.training.n_items, bool)
        return cls(holdout.training, users, targets, everything, holdout.times, shown=True, known=holdout.known)

    def __len__(self) -> int:
        return len(self.users)

    def select(self, chosen: npt.NDArray[np.integer]) -> "ValidationCases":
        """The cases of these numbers."""
        known = None if self.known is None else self.known.of_users(chosen)
        users, targets, times = self.users[chosen], self.targets[chosen], self.times[chosen]
        return replace(self, users=users, targets=targets, times=times, known=known)

    def histories(self, cases: slice = slice(None)) -> Interactions:
        """What is known of a range of the cases when they are asked: a log with one row ("user") per case."""
        of, rows = (self.log, self.users) if self.known is None else (self.known, np.arange(len(self)))
        return replace(of.of_users(rows[cases]), asked_at=self.times[cases])

    def blocks(self) -> list[slice]:
        """Ranges of cases whose scores of all items fit in a few megabytes."""
        height = max(1, SCORES_PER_BLOCK // max(1, len(self.candidates)))
        return [slice(begin, min(begin + height, len(self))) for begin in range(0, len(self), height)]

    def hidden(self, cases: slice) -> Mask:
        """Items that the ranking leaves out: what users had, and no candidates; shape (cases, n_items)."""
        hidden = np.repeat(~self.candidates[None, :], len(self.users[cases]), axis=0)
        if not self.shown:
            had = [self.histories(cases), *([] if self.known is None else [self.log.of_users(self.users[cases])])]
            for log in had:
                hidden[log.user, log.item] = True
        return hidden


def taken(log: Interactions, items: Mask, seed: int, most: int = 4000) -> ValidationCases:
    """Training interactions with some ``items``, (n_items,), at most so many: first ones, after anything else.

    Only these items are ranked. There are fewer where histories are so long that they would fill memory.
    """
    random = rng.generator(seed, "newcomers")
    if len(log) > _MOST_READ:
        people = random.permutation(log.n_users)
        log = log.of_users(np.sort(people[np.cumsum(np.diff(log.offsets)[people]) <= _MOST_READ]))
    rows = np.flatnonzero(items[log.item])
    users = np.searchsorted(log.offsets, rows, side="right") - 1
    _, first = np.unique(users * log.n_items + log.item[rows], return_index=True)
    first.sort()
    rows = rows[first][rows[first] > log.offsets[users[first]]]
    rows = rows[drawn(len(rows), most, random)]
    read = int((rows - log.offsets[log.user[rows]]).sum())
    if read > _MOST_READ:
        rows = rows[drawn(len(rows), max(1, len(rows) * _MOST_READ // read), random)]
    targets = log.item[rows].astype(np.int64)
    return ValidationCases(log.before(rows), np.arange(len(rows)), targets, items, log.timestamp[rows])


def ranks(cases: ValidationCases, scores: Callable[[slice], Matrix]) -> Ranks:
    """The rank of each target (1 is best), shape (C,); ties count against it.

    A target that is hidden, or no candidate, gets a rank behind all items. ``scores`` gives those of all items for a
    range of the cases, which may be written into.
    """

    def ranked(block: slice) -> Ranks:
        return rank_block(scores(block), cases.hidden(block), cases.targets[block])

    return np.concatenate([np.zeros(0, np.int64), *each(ranked, cases.blocks())])


def rank_block(scores: Matrix, hidden: Mask, targets: Rows) -> Ranks:
    """Ranks within scores (cases, n_items), which are overwritten where hidden."""
    rows = np.arange(len(targets))
    own = scores[rows, targets][:, None]
    np.copyto(scores, -np.inf, where=hidden)
    better = np.count_nonzero(scores >= own, axis=1)
    found: Ranks = np.where(hidden[rows, targets], scores.shape[1] + 1, better).astype(np.int64)
    return found


def gains(rank: Ranks, k: int = 10) -> npt.NDArray[np.float64]:
    """NDCG@k of each case: ``1 / log2(1 + rank)`` where rank ≤ k (Järvelin and Kekäläinen 2002)."""
    return np.where(rank <= k, 1 / np.log2(1.0 + rank), 0.0)


def ndcg(rank: Ranks, k: int = 10) -> float:
    """Mean NDCG@k; 0 without cases."""
    return float(gains(rank, k).mean()) if len(rank) else 0.0


def recall(rank: Ranks, k: int = 10) -> float:
    """Share of targets among the first k."""
    return float((rank <= k).mean()) if len(rank) else 0.0


def drawn(count: int, most: int, random: np.random.Generator) -> Rows:
    """At most ``most`` of the numbers below ``count``, drawn at random, ascending."""
    return np.arange(count) if count <= most else np.sort(random.choice(count, most, replace=False))


def sample(cases: ValidationCases, most: int, random: np.random.Generator) -> ValidationCases:
    """At most ``most`` of the cases, drawn at random."""
    return cases.select(drawn(len(cases), most, random))


def bounded(cases: int, n_items: int, seed: int) -> Rows:
    """Numbers of the cases, or where there are very many items of as many as are ranked within minutes."""
    most = max(_FEWEST, _RANKED // max(1, n_items))
    return drawn(cases, most, rng.generator(seed, "validation cases"))


def withheld_items(known: Mask, seed: int) -> Mask:
    """A random tenth of the known items, shape (n_items,)."""
    return known & (rng.generator(seed, "withheld items").random(len(known)) < WITHHELD)


def means(rank: Ranks) -> dict[str, float]:
    """The two figures that are shown of every model."""
    return {"ndcg@10": ndcg(rank), "recall@10": recall(rank)}
