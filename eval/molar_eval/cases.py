"""Cases: what a model is asked, and what would have been right."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap

Integers = npt.NDArray[np.integer]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float32]
"""Of items, one row per case or user."""
Seen = Literal["hide", "show"]
"""Whether items that a user had are hidden from a list."""


@dataclass(frozen=True, eq=False)
class Cases:
    """C moments at which a model is asked what comes next; the input of a case is the beginning of a user's history.

    Attributes:
        history: Everything the users did, the answers included; never given to a model as it is.
        user: User row of each case, shape (C,). A user may have several cases.
        length: How many of the user's first interactions lie before the case, shape (C,).
        offsets: Borders between the cases' targets, shape (C + 1,).
        targets: Item rows that would have been right, shape (T,), each once per case.
        readable: Items that a model may read in an input, shape (n_items,); None: all. A hidden one counts as seen.
        ranked: Items that the targets are ranked among, shape (n_items,), of those that are ranked at all; None: these.
    """

    history: Interactions
    user: Rows
    length: Rows
    offsets: Rows
    targets: npt.NDArray[np.int32]
    readable: Mask | None = None
    ranked: Mask | None = None

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def single(
        cls, history: Interactions, user: Integers, length: Integers, target: Integers, readable: Mask | None = None
    ) -> Self:
        """Cases with one target each, shapes (C,)."""
        rows, offsets = user.astype(np.int64), np.arange(len(user) + 1, dtype=np.int64)
        return cls(history, rows, length.astype(np.int64), offsets, target.astype(np.int32), readable)

    @property
    def case_of_target(self) -> Rows:
        """The case of each target, shape (T,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @property
    def single_target(self) -> Rows:
        """The target of each case that has one alone, -1 for the others, shape (C,)."""
        single = np.diff(self.offsets) == 1
        found = np.full(len(self), -1, np.int64)
        found[single] = self.targets[self.offsets[:-1][single]]
        return found

    def user_ids(self) -> list[str]:
        """The user's id of each case."""
        return list(self.history.users.ids(self.user))

    def times(self, chosen: slice = slice(None)) -> Rows:
        """When the cases ``chosen`` are asked: the time of the interaction that follows the input, shape (C,), seconds.

        The time of the user's last interaction where none follows, 0 where there is none at all.
        """
        user = self.user[chosen]
        first, end = self.history.offsets[user], self.history.offsets[user + 1]
        times = np.zeros(len(user), np.int64)
        some = end > first
        times[some] = self.history.timestamp[np.minimum(first + self.length[chosen], end - 1)[some]]
        return times

    def among(self, candidates: Mask) -> Mask:
        """Which of the candidates are ranked, shape (n_items,)."""
        return candidates if self.ranked is None else candidates & self.ranked

    def seen(self, chosen: slice = slice(None)) -> Interactions:
        """What the users had before the cases ``chosen``: a log with one row ("user") per case, asked at its time."""
        return self._prefixes(chosen, None)

    def inputs(self, chosen: slice = slice(None)) -> Interactions:
        """What a model may read of the cases ``chosen``: a log with one row ("user") per case, asked at its time."""
        return self._prefixes(chosen, self.readable)

    def select(self, keep: npt.NDArray[np.bool_]) -> "Cases":
        """The cases of a mask, shape (C,)."""
        counts = np.diff(self.offsets)
        return replace(
            self,
            user=self.user[keep],
            length=self.length[keep],
            offsets=np.concatenate([[0], np.cumsum(counts[keep], dtype=np.int64)]),
            targets=self.targets[np.repeat(keep, counts)],
        )

    def between(self, first: int, last: int) -> "Cases":
        """The cases from one place up to another."""
        begin, end = self.offsets[first], self.offsets[last]
        return replace(
            self,
            user=self.user[first:last],
            length=self.length[first:last],
            offsets=self.offsets[first : last + 1] - begin,
            targets=self.targets[begin:end],
        )

    def drawn(self, most: int, purpose: str) -> "Cases":
        """At most so many of the cases; for one purpose always the same ones, whatever the model and its seed."""
        if len(self) <= most:
            return self
        keep = np.zeros(len(self), bool)
        keep[rng.generator(0, purpose).choice(len(self), most, replace=False)] = True
        return self.select(keep)

    def _prefixes(self, chosen: slice, readable: Mask | None) -> Interactions:
        start, length = self.history.offsets[self.user[chosen]], self.length[chosen]
        offsets = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])
        rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - start, length)
        if readable is not None:
            keep = readable[self.history.item[rows]]
            offsets = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[offsets]
            rows = rows[keep]
        weight = self.history.weight
        return Interactions(
            users=IdMap.numbered(len(length)),
            items=self.history.items,
            offsets=offsets,
            item=self.history.item[rows],
            timestamp=self.history.timestamp[rows],
            weight=None if weight is None else weight[rows],
            asked_at=self.times(chosen),
            asked_by=self.user[chosen],
        )
