"""Vectors of users and items: what an alignment gives an index, and what a trained network makes of histories."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix

from molar_retrieval.alignment.batches import collate, latest_windows, plan
from molar_retrieval.alignment.network import PostAlignment
from molar_retrieval.arrays import Mask, Matrix, Rows
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.training.device import autocast

_TOKENS = 12_800


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Vectors of all items: dense, (n_items, d), and sparse, by dimension (s, n_items): partners, weighted, no zeros.

    A newcomer, which had no training interactions, has a dense vector made from its content alone, which ranks it among
    newcomers only, and no partners.
    """

    dense: Matrix
    partners: csr_matrix
    newcomer: Mask

    @property
    def sparse(self) -> csr_matrix:
        """The sparse vectors item by item, (n_items, s), put together each time."""
        return csr_matrix(self.partners.T)


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
    network: PostAlignment, log: InteractionLog, users: Rows, *, precision: str, progress: Progress = SILENT
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
def item_sides(network: PostAlignment, warm: Mask) -> dict[str, Matrix]:
    """The item vectors that user vectors are multiplied with, by tower, shape (n_items, dim), float32.

    A softmax fixes logits only up to a constant per user. Item tables are therefore shifted by the mean of the warm
    items, those with training interactions (``warm`` has shape (n_items,)), which moves all scores of a user alike:
    zero then stands for an average warm item, and is what a table has for all others.
    """
    sides = {name: items().float().cpu().numpy() for name, items in network.items.items()}
    for name, side in sides.items():
        if name != "content":
            mean = side[warm].mean(axis=0) if warm.any() else np.float32(0)
            sides[name] = np.where(warm[:, None], side - mean, np.float32(0))
    return sides
