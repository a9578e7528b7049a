"""How well withheld items are found: of their own other view, and by the histories of people who took them next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.encoders.base import unit
from molar_retrieval.models.item_item import decayed
from molar_retrieval.models.validation import drawn, gains, rank_block
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

TOP = 10
MOST = 2500
"""Queries and cases that are asked at most."""
READINGS = ((1, 1.0), (3, 0.7), (10, 0.8), (30, 0.9))
"""Ways to read a history: its last items, and the weight lost per place."""
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class WithheldCases:
    """Takings of withheld items, shape (cases,), and what the same people ``had`` of the others, (cases, n_items).

    Of the same shape is how each reading weighs the items of each history.
    """

    histories: tuple[csr_matrix, ...]
    had: csr_matrix
    target: Rows

    def __len__(self) -> int:
        return len(self.target)

    @classmethod
    def of(
        cls,
        log: Interactions | None,
        withheld: Mask,
        seed: int,
        readings: Sequence[tuple[int, float]] = READINGS,
        most: int = MOST,
    ) -> Self:
        """At most ``most`` cases of a log, drawn at random; ``withheld`` has shape (n_items,)."""
        if log is None or not withheld.any():
            nothing = csr_matrix((0, len(withheld)), dtype=np.float32)
            return cls((nothing,) * len(readings), nothing, np.zeros(0, np.int64))
        away = withheld[log.item]
        before: Rows = np.cumsum(~away) - ~away
        cases = np.flatnonzero(away & (before > before[log.offsets[log.user]]))
        cases = cases[drawn(len(cases), most, rng.generator(seed, "fine-tuning cases"))]
        read = log.before(cases)
        read = read.select(~withheld[read.item])
        histories = tuple(decayed(read, decay, last) for last, decay in readings)
        return cls(histories, decayed(read, 1.0, len(read) + 1), log.item[cases].astype(np.int64))

    def among(self, items: Rows) -> Self:
        """The same cases where these are all the items there are, by ascending rows; all targets must be among them."""
        target = np.searchsorted(items, self.target)
        return type(self)(tuple(read[:, items] for read in self.histories), self.had[:, items], target)

    def gains(self, vectors: Matrix, reading: int) -> npt.NDArray[np.float64]:
        """NDCG@10 of each case among all items, by the cosine with the mean of its history, shape (cases,)."""
        ranks = [np.zeros(0, np.int64)]
        for begin in range(0, len(self), _BLOCK):
            some = slice(begin, begin + _BLOCK)
            scores = unit(self.histories[reading][some] @ vectors) @ vectors.T
            ranks.append(rank_block(scores, self.had[some].toarray() > 0, self.target[some]))
        return gains(np.concatenate(ranks), TOP)


def recall(asked: Matrix, answers: Matrix, rows: Rows, double: Rows) -> float:
    """Share of queries (q, D) that find their own item, or one that says the very same, among the first ten of all.

    Items (n, D) of zeros answer nothing. ``rows`` are the queries' own items, shape (q,); items that say the same share
    a number of ``double``, shape (n,).
    """
    found = 0
    there = answers.any(axis=1)
    for begin in range(0, len(rows), _BLOCK):
        some = rows[begin : begin + _BLOCK]
        scores = asked[begin : begin + _BLOCK] @ answers.T
        scores[:, ~there] = -np.inf
        own = scores[np.arange(len(some)), some]
        others = (scores >= own[:, None]) & (double[some][:, None] != double[None, :])
        found += int((others.sum(axis=1) < TOP).sum())
    return found / max(1, len(rows))


def crossed(words: Matrix, photos: Matrix, rows: Rows, double: Rows) -> tuple[float, float]:
    """Recall@10 of texts (n, D) by photos (n, D), and of these by texts, of the items at ``rows``."""
    return recall(photos[rows], words, rows, double), recall(words[rows], photos, rows, double)
