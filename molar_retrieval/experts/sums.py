"""Counts of pairs of items as sums over users, to which some users' histories are added, or from which they are taken.

The sums are exact (whole numbers, or multiples of 2⁻³⁰ in float64), so that after any number of changes they are those
of a recount, and a pair that nobody has any more is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, triu

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.histories import binary, countable
from molar_retrieval.experts.item_item import moved
from molar_retrieval.experts.order import followers
from molar_retrieval.workspace.tensors import Array, Rows

_ARRAYS = ("data", "indices", "indptr")
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class PairSums:
    """What the counting experts are made of, each of shape (n_items, n_items), or None where no expert asks for it.

    ``followed`` is :func:`molar_retrieval.experts.order.followers` with a ``window``, a ``decay`` and a ``fade``;
    ``together`` says how many users took two items, in its upper triangle, as far as their histories are
    :func:`countable`.
    """

    window: int = 0
    decay: float = 0.0
    followed: csr_matrix | None = None
    together: csr_matrix | None = None
    fade: float = 0.0

    @classmethod
    def of(
        cls, log: Interactions, *, window: int = 0, decay: float = 0.0, fade: float = 0.0, together: bool = False
    ) -> Self:
        """Count; a window of 0: nobody asks what follows."""
        followed = followers(log, window, decay, fade, exact=True) if window else None
        return cls(window, decay, followed, _together(countable(log)) if together else None, fade)

    def moved(self, rows: Rows, n_items: int) -> Self:
        """The same over other items: row n is at ``rows[n]`` now, -1 where it is gone; shape (n_items,) before."""
        followed = None if self.followed is None else moved(self.followed, rows, n_items)
        together = None if self.together is None else _upper(moved(self.together, rows, n_items))
        return replace(self, followed=followed, together=together)

    def with_changes(self, before: Interactions, after: Interactions, rows: Rows) -> Self:
        """The sums where some users' histories ``before`` are those ``after``, over other items.

        ``rows`` says where each item is now, -1 where it is gone. Users are told by their ids; who is in one log only
        came, or left. Most change little, of which pairs alone are counted: N'N − O'O is D'N + O'D, for what users had
        (O), have (N) and D = N − O.
        """
        followed = together = None
        if self.followed is not None:
            old, new = (followers(log, self.window, self.decay, self.fade, exact=True) for log in (before, after))
            followed = _without_zeros(moved(self.followed - old, rows, after.n_items) + new)
        if self.together is not None:
            had, have = _side_by_side(before, after, rows)
            differ = _without_zeros(have - had)
            change = triu(differ.T @ have + had.T @ differ, format="csr")
            together = _without_zeros(_upper(moved(self.together, rows, after.n_items)) + change)
        return replace(self, followed=followed, together=together)

    @property
    def size(self) -> int:
        """Bytes that they take."""
        kept = [matrix for matrix in (self.followed, self.together) if matrix is not None]
        return sum(getattr(matrix, name).nbytes for matrix in kept for name in _ARRAYS)

    def to_tensors(self) -> dict[str, Array]:
        """All of it as arrays by name."""
        found: dict[str, Array] = {"order": np.array([self.window, self.decay, self.fade], np.float64)}
        for kind, matrix in (("followed", self.followed), ("together", self.together)):
            if matrix is not None:
                found |= {f"{kind}.{name}": getattr(matrix, name) for name in _ARRAYS}
        return found

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Array]) -> Self:
        """The inverse of :meth:`to_tensors`."""
        window, decay, *fade = tensors["order"].tolist()  # none of former versions fades
        followed, together = (_read(tensors, kind) for kind in ("followed", "together"))
        return cls(int(window), decay, followed, together, *fade)


def _together(log: Interactions) -> csr_matrix:
    taken = binary(log)
    total = csr_matrix((log.n_items, log.n_items), dtype=np.float32)
    for begin in range(0, log.n_users, _BLOCK):
        own = taken[begin : begin + _BLOCK]
        total = total + triu(own.T @ own, format="csr")
    return csr_matrix(total, dtype=np.float32)


def _side_by_side(before: Interactions, after: Interactions, rows: Rows) -> tuple[csr_matrix, csr_matrix]:
    """What users had and have, of the items of ``after``; each of the same shape, a user in the same row of both."""
    there = after.users.rows(before.users.array).astype(np.int64)
    gone = there < 0
    there[gone] = after.n_users + np.arange(np.count_nonzero(gone))
    shape = (after.n_users + int(np.count_nonzero(gone)), after.n_items)
    had, have = binary(before).tocoo(), binary(after).tocoo()
    here = rows[had.col] >= 0
    places = there[had.row[here]], rows[had.col[here]]
    return csr_matrix((had.data[here], places), shape=shape), csr_matrix((have.data, (have.row, have.col)), shape=shape)


def _upper(matrix: csr_matrix) -> csr_matrix:
    """Of a symmetric matrix of which each pair stands in one triangle or the other, the upper triangle."""
    return csr_matrix(triu(matrix) + triu(matrix.T, 1))


def _without_zeros(matrix: csr_matrix) -> csr_matrix:
    result = csr_matrix(matrix)
    result.eliminate_zeros()
    return result


def _read(tensors: Mapping[str, Array], kind: str) -> csr_matrix | None:
    if f"{kind}.indptr" not in tensors:
        return None
    data, indices, indptr = (tensors[f"{kind}.{name}"] for name in _ARRAYS)
    return csr_matrix((data, indices, indptr), shape=(len(indptr) - 1,) * 2)


def changed_users(before: Interactions, after: Interactions, rows: npt.NDArray[np.integer]) -> tuple[Rows, Rows]:
    """Users whose histories differ between two logs: their rows in the one and in the other.

    Who is in one of them only is named for that one. Item row n of ``before`` is ``rows[n]`` in ``after``, -1 where the
    item is gone.
    """
    there = after.users.rows(before.users.array)
    old, new = np.flatnonzero(there >= 0), there[there >= 0]
    same = np.zeros(before.n_users, bool)
    lengths = np.diff(before.offsets)[old] == np.diff(after.offsets)[new]
    old, new = old[lengths], new[lengths]
    left, right = before.of_users(old), after.of_users(new)
    differs = (rows[left.item] != right.item) | (left.timestamp != right.timestamp)
    if left.strength is not None or right.strength is not None:
        differs |= _strength(left) != _strength(right)
    behind = np.add.reduceat(np.append(differs, False), left.offsets[:-1]) * (np.diff(left.offsets) > 0)
    same[old] = behind == 0
    gone = np.flatnonzero(~same)
    stays = np.zeros(after.n_users, bool)
    stays[there[same]] = True
    return gone, np.flatnonzero(~stays)


def _strength(log: Interactions) -> npt.NDArray[np.float32]:
    return np.ones(len(log), np.float32) if log.strength is None else log.strength
