"""Small made-up tasks for models under test."""

from pathlib import Path

import numpy as np

from molar_eval.cases import Cases
from molar_eval.models.base import EvaluationTask
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap

N_ITEMS = 30
COLD = (28, 29)
"""Items that nobody takes in training."""
NO_CONTENT = 27


def log_of(histories, n_items=N_ITEMS, times=None, weights=None):
    """A log of the given histories; without times, one interaction an hour for everybody."""
    lengths = [len(history) for history in histories]
    flat = [item for history in histories for item in history]
    hours = [hour * 3600 for length in lengths for hour in range(length)]
    return Interactions(
        IdMap([f"u{n}" for n in range(len(histories))]),
        IdMap([f"i{n}" for n in range(n_items)]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array(flat, np.int32),
        np.array(hours if times is None else times, np.int64),
        None if weights is None else np.array(weights, np.float32),
    )


def walks(users=80, length=7, seed=0):
    """Everybody walks round one of two circles of items in steps of one or two, and comes to no item twice.

    The order tells what comes next, and which items were taken by the same people tells the circle.
    """
    random = np.random.default_rng(seed)
    size = (N_ITEMS - len(COLD)) // 2
    steps = [random.integers(size) + np.cumsum(random.integers(1, 3, length)) for _ in range(users)]
    return [size * (user % 2) + walk % size for user, walk in enumerate(steps)]


def circles():
    """Content in which neighbours on a circle are alike; one item has none."""
    size = (N_ITEMS - len(COLD)) // 2
    circle, angle = np.arange(N_ITEMS) // size, 2 * np.pi * np.arange(N_ITEMS) / size
    sides = [np.where(circle == c, wave(angle), 0) for c in range(3) for wave in (np.cos, np.sin, np.ones_like)]
    vectors = np.stack(sides, 1).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[NO_CONTENT] = 0
    return vectors


def leave_one_out(histories, folder=Path(), content=None, seen="hide"):
    """The last interaction of everybody is the test, the one before validates."""
    log = log_of(histories)
    lengths = np.diff(log.offsets)
    users, last = np.arange(log.n_users), log.offsets[1:] - 1
    keep = np.ones(len(log), bool)
    keep[last] = keep[last - 1] = False
    validation = Cases.single(log, users, lengths - 2, log.item[last - 1])
    test = Cases.single(log, users, lengths - 1, log.item[last])
    return EvaluationTask(log.select(keep), validation, np.ones(N_ITEMS, bool), content, seen, folder, content), test
