"""User vectors from histories, by a trained network."""

import numpy as np
import numpy.typing as npt
import torch

from molar_retrieval.alignment.batches import Rows, collate, latest_windows, plan
from molar_retrieval.alignment.device import autocast
from molar_retrieval.alignment.network import PostAlignment
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.progress import SILENT, Progress

Matrix = npt.NDArray[np.float32]
_TOKENS = 12_800


@torch.inference_mode()
def encode_users(
    network: PostAlignment, log: InteractionLog, users: Rows, *, precision: str, progress: Progress = SILENT
) -> tuple[Matrix, Matrix]:
    """The collaborative and the content vector of each user after the last item of the log's history.

    Args:
        network: Trained; put into evaluation mode here.
        log: Histories.
        users: User rows, shape (U,); a user without history gets vectors of zeros.
        precision: ``bfloat16`` or ``float32``.
        progress: Told of each user.

    Returns:
        Two arrays, shapes (U, dim) and (U, content dim), float32.
    """
    device = network.item_table.device
    collaborative = np.zeros((len(users), network.collaborative.shape.dim), np.float32)
    content = np.zeros((len(users), network.content.shape.dim), np.float32)
    present = np.flatnonzero(log.offsets[users + 1] > log.offsets[users])
    windows = latest_windows(log, users[present], network.collaborative.shape.history)
    training = network.training
    network.eval()
    for batch in plan(windows.length, _TOKENS):
        history = collate(log, windows.start[batch], windows.length[batch], device)
        with autocast(device, precision):
            left, right = network.users(history)
        rows = torch.arange(len(batch), device=device)
        collaborative[present[batch]] = left[rows, history.lengths - 1].float().cpu().numpy()
        content[present[batch]] = right[rows, history.lengths - 1].float().cpu().numpy()
        progress.advance(len(batch))
    network.train(training)
    return collaborative, content


@torch.inference_mode()
def item_sides(network: PostAlignment, warm: npt.NDArray[np.bool_]) -> tuple[Matrix, Matrix]:
    """The item vectors that user vectors are multiplied with, by tower.

    A softmax fixes logits only up to a constant per user. The collaborative side is therefore shifted by the mean
    of the warm items, which moves all scores of a user alike: zero then stands for an average warm item, and zero is
    what an item without interactions gets.

    Args:
        network: Trained.
        warm: Whether an item has training interactions, shape (n_items,).

    Returns:
        Two arrays, shapes (n_items, dim) and (n_items, content dim), float32.
    """
    table = network.item_table.detach().float().cpu().numpy()
    mean = table[warm].mean(axis=0) if warm.any() else np.float32(0)
    collaborative = np.where(warm[:, None], table - mean, np.float32(0))
    return collaborative, network.content_items().float().cpu().numpy()
