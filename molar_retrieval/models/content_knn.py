"""Content neighbours: what a history looks like against what items look like, along axes that interactions teach.

Scoring reads no other user's interactions; :func:`learned_axes` finds axes along which content tells co-consumption.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, eigsh

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.encoders.base import unit
from molar_retrieval.models.item_item import binary, decayed
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

_FEWEST = 3
"""Items below which there is nothing to factorise …"""
_FEWEST_TAUGHT = 50
"""… and below which nothing can be learned of them."""
_FACTORS = 128
_PENALTY = 1.0
_MOST_ITEMS = 30_000
_MOST_READ = 5_000_000
"""Items and interactions that teach, the items being those that were taken most."""
_TOLERANCE = 1e-3


def consumed_together(log: Interactions, among: Mask, factors: int, tolerance: float = 0.0) -> tuple[Rows, Matrix]:
    """The leading factors of how often two different items were taken by the same people, per taking of either.

    The matrix ``D^-½ (XᵀX - diag) D^-½`` with X people × items and D its row sums is never made: only its products.
    The m items ``among`` them that share a taker with another one come with (m, at most ``factors``) factors, as exact
    as the relative ``tolerance`` says; 0: to the last digit.
    """
    taken = binary(log)[:, np.flatnonzero(among)].astype(np.float64)
    own = np.asarray(taken.sum(axis=0)).ravel()
    together = np.asarray(taken.T @ (taken @ np.ones(taken.shape[1]))).ravel() - own
    kept = np.flatnonzero(together > 0)
    items = np.flatnonzero(among)[kept]
    if len(kept) < _FEWEST:
        return items[:0], np.zeros((0, 0), np.float32)
    taken, own, scale = taken[:, kept], own[kept], together[kept] ** -0.5

    def product(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        scaled = scale * vector.ravel()
        result: npt.NDArray[np.float64] = scale * (taken.T @ (taken @ scaled) - own * scaled)
        return result

    operator = LinearOperator((len(kept), len(kept)), matvec=product, dtype=np.float64)
    start = rng.generator(0, "co-consumption").random(len(kept))
    values, vectors = eigsh(operator, k=min(factors, len(kept) - 1), which="LA", v0=start, tol=tolerance)
    good = values > 0
    return items, np.asarray(vectors[:, good] * np.sqrt(values[good]), np.float32)


def ridge(given: Matrix, wanted: Matrix, penalty: float) -> Matrix:
    """The linear map from rows to rows with the least squares and a penalty on its size, shape (d, e)."""
    left = given.T @ given + np.float32(penalty) * np.eye(given.shape[1], dtype=np.float32)
    return np.asarray(np.linalg.solve(left, given.T @ wanted), np.float32)


def learned_axes(features: Matrix, log: Interactions, least: int = 1) -> Matrix | None:
    """Axes along which features, shape (n_items, f), tell what items look like and, as loudly, who takes them.

    Shape (f, at most f and 256): the principal axes of the features beside what a ridge regression makes of them, the
    128 leading factors of what is taken together. Items that fewer people than ``least``, or only one, had teach
    nothing. None where too few items do.
    """
    counts = np.bincount(log.item, minlength=log.n_items)
    often = np.zeros(log.n_items, bool)
    often[np.argsort(-counts, kind="stable")[:_MOST_ITEMS]] = True
    read = log.select(often[log.item])
    if len(read) > _MOST_READ:
        people = rng.generator(0, "who teaches content").permutation(log.n_users)
        lengths = np.diff(read.offsets)[people]
        read = read.of_users(np.sort(people[: int(np.searchsorted(np.cumsum(lengths), _MOST_READ))]))
    takers = np.asarray(binary(read).sum(axis=0)).ravel()
    rows, factors = consumed_together(read, takers >= max(2, least), _FACTORS, _TOLERANCE)
    if len(rows) < _FEWEST_TAUGHT:
        return None
    seen = np.asarray(features[rows], np.float32)
    told = ridge(seen - seen.mean(axis=0), factors - factors.mean(axis=0), _PENALTY)
    length = float(np.sqrt(((seen @ told) ** 2).sum(axis=1).mean()))
    if not length:
        return None
    both = np.concatenate([np.eye(features.shape[1], dtype=np.float32), told / np.float32(length)], axis=1)
    _, turns = np.linalg.eigh((both.T @ (features.T @ features) @ both).astype(np.float64))
    most = min(DIM, features.shape[1])  # no more is there to be told apart
    axes: Matrix = signed(both @ turns[:, ::-1][:, :most].astype(np.float32))
    return axes


GRID = tuple(
    {"last": last, "decay": decay}
    for last, decay in ((1, 1.0), (3, 0.7), (5, 0.8), (10, 0.8), (10, 1.0), (30, 0.9), (100, 0.97), (300, 1.0))
)
"""Ways to read a history, from its last item alone to all of it."""
DIM = 256
"""Principal axes of the content features that are kept; fewer lose what tells variants of a product apart."""
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True, eq=False)
class ContentKNN:
    """Cosines between items, (n_items, dim), and the decayed mean of a history, as :func:`mean_direction` says.

    With ``targets``, (n_items, dim), histories are not compared with what items look like but with these. Where people
    taught what makes items alike, ``axes`` are from features to items, (f, dim).
    """

    items: Matrix
    decay: float
    last: int
    targets: Matrix | None = None
    axes: Matrix | None = None

    @classmethod
    def of(cls, features: Matrix, decay: float, last: int) -> Self:
        """From the conditioned content vectors of all items, shape (n_items, f)."""
        return cls(compressed(features), decay, last)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.items.shape[1])

    @property
    def sides(self) -> Matrix:
        """What histories are compared with, shape (n_items, dim)."""
        return self.items if self.targets is None else self.targets

    def users(self, log: Interactions) -> Matrix:
        """What each history looks like, shape (n_users, dim), rows of length 1 or 0."""
        return mean_direction(log, self.items, self.decay, self.last)

    def scores(self, log: Interactions) -> Matrix:
        """Scores of all items for each history, shape (n_users, n_items)."""
        scores: Matrix = self.users(log) @ self.sides.T
        return scores


def mean_direction(log: Interactions, features: Matrix, decay: float, last: int) -> Matrix:
    """The direction of the decayed mean of a history's content vectors, so that a dot product is a cosine.

    Of the ``last`` interactions that count, each loses ``decay``, in (0, 1], per place from the end. Features and
    result have shapes (n_items, f) and (n_users, f), rows of length 1, or 0 without content.
    """
    return unit(decayed(log, decay, last) @ features)


def compressed(features: Matrix, axes: Matrix | None = None) -> Matrix:
    """Features along ``axes``, rows of length 1 or 0 again; None: their leading principal axes, at most 256."""
    if axes is None and features.shape[1] > DIM:
        axes = principal(features)
    rows = features if axes is None else features @ axes
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Matrix = np.divide(rows, length, out=np.zeros_like(rows), where=length > _NEGLIGIBLE)
    return found


def principal(features: Matrix) -> Matrix:
    """The leading principal axes of features, as columns, at most 256; all axes as they are where there are no more."""
    if features.shape[1] <= DIM:
        return np.eye(features.shape[1], dtype=np.float32)
    _, axes = np.linalg.eigh((features.T @ features).astype(np.float64))
    return signed(axes[:, ::-1][:, :DIM].astype(np.float32))


def signed(axes: Matrix) -> Matrix:
    """Axes, as columns, whose sign was arbitrary: the largest number of each is positive."""
    sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    found: Matrix = axes * sign
    return found
