"""Histories in batches: windows of long histories, grouped by length so that little padding is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.towers.network import History, time_gaps
from molar_retrieval.workspace.tensors import Mask, Rows

_SHORT = 64


@dataclass(frozen=True)
class Windows:
    """Ranges of a log's rows, each within one user, and whether each ends the user's history; shape (W,) each."""

    start: Rows
    length: Rows
    user: Rows
    last: Mask

    def __len__(self) -> int:
        return len(self.start)

    def select(self, chosen: Rows) -> "Windows":
        """The windows of these numbers."""
        return Windows(self.start[chosen], self.length[chosen], self.user[chosen], self.last[chosen])


def training_windows(log: Interactions, history: int) -> Windows:
    """Cut every history, from its end, into windows whose targets cover each interaction but the first once.

    A window has up to ``history`` inputs and one more row, the target of its last input; windows share that border
    row.
    """
    length = np.diff(log.offsets)
    users = np.flatnonzero(length >= 2)
    pieces = -(-(length[users] - 1) // history)
    user = np.repeat(users, pieces)
    number = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # from the end of each history
    end = log.offsets[user + 1] - number * history
    start = np.maximum(log.offsets[user], end - history - 1)
    return Windows(start, end - start, user, number == 0)


def latest_windows(log: Interactions, users: Sequence[int] | Rows, history: int) -> Windows:
    """The last ``history`` rows of each of ``users``, who must have at least one."""
    rows = np.asarray(users, np.int64)
    high = log.offsets[rows + 1].astype(np.int64)
    start = np.maximum(log.offsets[rows].astype(np.int64), high - history)
    return Windows(start, high - start, rows, np.ones(len(rows), bool))


def padded(length: int) -> int:
    """The length to which a batch is padded: a multiple of 8, of 20 from 64 on, as 200 is where long histories are cut.

    Few shapes matter more than little padding: a matrix product of a new shape is compiled first, and only so many
    compiled ones are kept.
    """
    step = 8 if length <= _SHORT else 20
    return -(-length // step) * step


def plan(lengths: Rows, tokens: int, random: np.random.Generator | None = None) -> list[Rows]:
    """Group windows of these lengths into batches of like ones: the numbers of each batch's windows.

    A batch has at most ``tokens`` positions, padding included; a longer window makes one alone. ``random`` shuffles
    within equal lengths and the order of the batches; None keeps both sorted.
    """
    tie = random.permutation(len(lengths)) if random is not None else np.arange(len(lengths))
    order = np.lexsort((tie, -lengths))
    batches, begin = [], 0
    while begin < len(order):
        count = max(1, tokens // padded(int(lengths[order[begin]])))
        batches.append(order[begin : begin + count].astype(np.int64))
        begin += count
    if random is not None:
        return [batches[number] for number in random.permutation(len(batches))]
    return batches


def padded_rows(start: Rows, length: Rows, width: int) -> tuple[Rows, Mask]:
    """Rows of a log for histories of unequal length, each (B, width); where not valid, the last row again."""
    place = np.arange(width)[None, :]
    return start[:, None] + np.minimum(place, length[:, None] - 1), place < length[:, None]


def collate(log: Interactions, start: Rows, length: Rows, device: torch.device | str = "cpu") -> History:
    """The rows ``start … start + length`` of each history as one padded batch."""
    rows, valid = padded_rows(start, length, padded(int(length.max())))
    items = np.where(valid, log.item[rows], 0).astype(np.int64)
    gaps = time_gaps(torch.from_numpy(log.timestamp[rows].astype(np.int64)))
    return History(torch.from_numpy(items), gaps, torch.from_numpy(length.astype(np.int64))).to(device)


def training_batches(log: Interactions, windows: Windows, tokens: int, random: np.random.Generator) -> list[Windows]:
    """The batches of one epoch in random order."""
    return [windows.select(chosen) for chosen in plan(windows.length - 1, tokens, random)]
