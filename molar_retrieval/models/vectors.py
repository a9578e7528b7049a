"""Vectors of users and items: what an alignment gives an index, and what a trained network makes of histories."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.towers.batches import collate, latest_windows, plan
from molar_retrieval.models.towers.distributed import autocast
from molar_retrieval.models.towers.network import TwoTowerNetwork
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

_TOKENS = 12_800
_NUMBERS = 1 << 24
"""Of sparse vectors that are turned at a time."""


@dataclass(frozen=True, eq=False)
class ItemItemVectors:
    """The sparse vectors of all items, by dimension: matrices (…, n_items) one below the other, times a weight each.

    They may be mapped from files, so they are put together, whole or by item, when they are asked for.
    """

    matrices: Sequence[csr_matrix]
    weights: Sequence[float]
    n_items: int

    @classmethod
    def of(cls, weighted: Sequence[tuple[csr_matrix, float]], n_items: int) -> Self:
        """In their order; what is 0 times its weight is left out, and each row is put in order."""
        return cls([_clean(*one) for one in weighted], [weight for _, weight in weighted], n_items)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return sum(matrix.shape[0] for matrix in self.matrices)

    @property
    def nnz(self) -> int:
        """How many numbers there are."""
        return sum(matrix.nnz for matrix in self.matrices)

    def whole(self, items: slice = slice(None)) -> csr_matrix:
        """Those of a range of the items, by dimension, shape (:attr:`dim`, items)."""
        some = [m if items == slice(None) else m[:, items] for m in self.matrices]
        if not some:
            return csr_matrix((0, len(range(self.n_items)[items])), dtype=np.float32)
        weighted = [_times(matrix, weight) for matrix, weight in zip(some, self.weights, strict=True)]
        return csr_matrix(vstack(weighted)) if len(weighted) > 1 else weighted[0]

    def by_item(self) -> Iterator[csr_matrix]:
        """All items in turns, shape (items, :attr:`dim`) each."""
        step = max(1, self.n_items * _NUMBERS // max(_NUMBERS, self.nnz))
        for begin in range(0, self.n_items, step):
            yield csr_matrix(self.whole(slice(begin, min(begin + step, self.n_items))).T)


def _clean(matrix: csr_matrix, weight: float) -> csr_matrix:
    pieces = range(0, matrix.nnz, _NUMBERS)
    factor = np.float32(weight)
    if not all((matrix.data[begin : begin + _NUMBERS] * factor).all() for begin in pieces):
        matrix = matrix.copy()
        matrix.data[matrix.data * factor == 0] = 0
        matrix.eliminate_zeros()
    return matrix if matrix.has_sorted_indices else matrix.sorted_indices()


def _times(matrix: csr_matrix, weight: float) -> csr_matrix:
    """A matrix times a number; where its numbers lie is shared with it."""
    return csr_matrix((matrix.data * np.float32(weight), matrix.indices, matrix.indptr), matrix.shape)


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Vectors of all items: dense, (n_items, d), and sparse, by dimension (s, n_items): item-item weights.

    A cold-start item, which had no training interactions, has a dense vector made from its content alone, which ranks
    it among cold-start items only, and no neighbors.
    """

    dense: Matrix
    neighbors: ItemItemVectors
    newcomer: Mask


@dataclass(frozen=True)
class Predictor:
    """A ridge map from content features to vectors, (f, d), which guesses those of items without interactions."""

    matrix: Matrix
    mean: Matrix

    def __call__(self, features: Matrix) -> Matrix:
        """Vectors of items by their content, shapes (n, f) → (n, d)."""
        result: Matrix = features @ self.matrix + self.mean
        return result


@torch.inference_mode()
def encode_users(
    network: TwoTowerNetwork, log: Interactions, users: Rows, *, precision: str, progress: Progress = SILENT
) -> dict[str, Matrix]:
    """Each tower's vector of each user after the last item of the log's history, shape (U, dim), float32, by tower.

    The network is in evaluation mode meanwhile. A user without history gets vectors of zeros.
    """
    shapes = network.shapes
    vectors = {name: np.zeros((len(users), shape.dim), np.float32) for name, shape in shapes.items()}
    if not shapes:
        progress.advance(len(users))
        return vectors
    device = next(network.parameters()).device
    present = np.flatnonzero(log.offsets[users + 1] > log.offsets[users])
    windows = latest_windows(log, users[present], max(shape.history for shape in shapes.values()))
    training = network.training
    network.eval()
    for batch in plan(windows.length, _TOKENS):
        history = collate(log, windows.start[batch], windows.length[batch], device)
        with autocast(device, precision):
            encoded = network.last_users(history)
        for name, states in encoded.items():
            vectors[name][present[batch]] = states.float().cpu().numpy()
        progress.advance(len(batch))
    network.train(training)
    return vectors


@torch.inference_mode()
def item_sides(network: TwoTowerNetwork, warm: Mask) -> dict[str, Matrix]:
    """The item vectors that user vectors are multiplied with, by tower, shape (n_items, dim), float32.

    A softmax fixes logits only up to a constant per user. Item tables are therefore shifted by the mean of the warm
    items, those with training interactions (``warm`` has shape (n_items,)), which moves all scores of a user alike:
    zero then stands for an average warm item, and is what a table has for all others.
    """
    sides = {name: items().float().cpu().numpy() for name, items in network.items.items()}
    for name, side in sides.items():
        if name != "content_tower":
            mean = side[warm].mean(axis=0) if warm.any() else np.float32(0)
            sides[name] = np.where(warm[:, None], side - mean, np.float32(0))
    return sides
