"""What is taken by the same people, as factors, and content that tells them.

Items that people took can be compared by who took them, others by what they look like alone. A ridge regression from
content to factors of what is taken together, as the maps from content to collaborative factors of cold-start
recommenders (Gantner et al. 2010, doi:10.1109/ICDM.2010.129; Heater, Zhu et al. 2020), tells of any item who would
take it; beside the content itself it makes two items alike that look alike, or that are taken alike.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, eigsh

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.content_knn import DIM, signed
from molar_retrieval.experts.histories import binary
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


def taught_axes(features: Matrix, log: Interactions, least: int = 1) -> Matrix | None:
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
