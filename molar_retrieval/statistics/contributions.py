"""What one person contributes to the sums: vectors of whole numbers, each as long as a radius at most.

A person's vector is computed from their own history and from what is public, and from nobody else's. It is scaled to
the radius and every number of it is cut towards zero, so that it is not longer, whatever the history.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval.arrays import Matrix, Rows
from molar_retrieval.experts.histories import binary
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.statistics.noise import Whole

LATEST = 2_000
"""Latest interactions of a person that count."""
WINDOW, DECAY = 10, 0.9
"""How many places apart two interactions lie at most to be a pair, and what a place between them leaves of it."""
_ROWS = 1 << 15
_MARGIN = 1 - 1e-9
"""What floating point may get wrong of a length."""


def latest(log: InteractionLog) -> InteractionLog:
    """The log without what is too long ago in a history for it to count."""
    ends = np.repeat(log.offsets[1:], np.diff(log.offsets))
    return log.select(ends - np.arange(len(log)) <= LATEST)


def people_sum(log: InteractionLog, radius: int) -> Whole:
    """How many people took anything, shape (1,)."""
    return np.array([np.count_nonzero(np.diff(log.offsets)) * radius])


def popularity_sums(log: InteractionLog, radius: int) -> Whole:
    """What people had, every item once a person, shape (n_items,)."""
    had = binary(log).tocoo()
    values = _whole(had.data.astype(np.float64), had.row, log.n_users, radius)
    return np.bincount(had.col, values, minlength=log.n_items).astype(np.int64)


def pair_sums(log: InteractionLog, radius: int) -> csr_matrix:
    """Pairs of different items that one person took near to each other, shape (n_items, n_items), int64.

    Row i is of what came after item i.
    """
    shape, width = (log.n_items, log.n_items), log.n_items
    total = csr_matrix(shape, dtype=np.int64)
    for block in _blocks(log):
        near = _near(block).tocoo()
        cell = block.item[near.col] * np.int64(width) + block.item[near.row]
        own = csr_matrix((near.data, (block.user[near.row], cell)), shape=(block.n_users, width**2))
        own.sum_duplicates()
        own = own.tocoo()
        row, column = own.col // width, own.col % width
        values = _whole(own.data * (row != column), own.row, block.n_users, radius)
        total = total + csr_matrix((values, (row, column)), shape=shape)
    total.eliminate_zeros()
    return total


def transition_sums(log: InteractionLog, features: Matrix, radius: int) -> Whole:
    """After what each item was taken: decayed sums of the features of what the same person took just before.

    Features have shape (n_items, d), and so has the result, int64.
    """
    total = np.zeros(features.shape, np.int64)
    for block in _blocks(log):
        past = _near(block) @ features[block.item].astype(np.float64)
        taken = block.user.astype(np.int64) * log.n_items + block.item
        place, which = np.unique(taken, return_inverse=True)
        once = csr_matrix((np.ones(len(which)), (which, np.arange(len(which)))), shape=(len(place), len(which)))
        person, item = np.divmod(place, log.n_items)
        values = _whole(once @ past, person, block.n_users, radius)
        sums = csr_matrix((np.ones(len(item)), (item, np.arange(len(item)))), shape=(log.n_items, len(item)))
        total += (sums @ values).astype(np.int64)
    return total


def _whole(values: npt.NDArray[np.float64], person: Rows, people: int, radius: int) -> Whole:
    """The vectors of people, each scaled to the radius, in whole numbers.

    Whose number, or row of numbers, each of the values is says ``person``.
    """
    length = np.sqrt(np.bincount(person, _squares(values), minlength=people))
    scale = np.divide(radius * _MARGIN, length, out=np.zeros(people), where=length > 0)
    own = scale[person]
    found = np.trunc(values * (own if values.ndim == 1 else own[:, None]))
    found[np.bincount(person, _squares(found), minlength=people)[person] > radius**2] = 0  # but for faults, nobody
    return found.astype(np.int64)


def _squares(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values**2 if values.ndim == 1 else np.einsum("ij,ij->i", values, values)


def _blocks(log: InteractionLog) -> Iterator[InteractionLog]:
    """The people, some at a time, so that what is made of their interactions fits in memory."""
    begin = 0
    while begin < log.n_users:
        end = max(begin + 1, int(np.searchsorted(log.offsets, log.offsets[begin] + _ROWS, side="right")) - 1)
        yield log.of_users(np.arange(begin, end))
        begin = end


def _near(log: InteractionLog) -> csr_matrix:
    """How much each interaction, as a row, has to do with each earlier one of the same person, shape (n, n)."""
    user, strength = log.user, np.ones(len(log)) if log.strength is None else log.strength.astype(np.float64)
    later, earlier, values = [], [], []
    for distance in range(1, min(WINDOW, len(log) - 1) + 1):
        (first,) = np.nonzero(user[distance:] == user[:-distance])
        later.append(first + distance)
        earlier.append(first)
        values.append(DECAY ** (distance - 1) * strength[first] * strength[first + distance])
    rows = [np.concatenate(part) if part else np.zeros(0) for part in (values, later, earlier)]
    return csr_matrix((rows[0], (rows[1].astype(np.int64), rows[2].astype(np.int64))), shape=(len(log), len(log)))
