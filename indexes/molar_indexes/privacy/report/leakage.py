"""How much of what was counted in a log is of single people: pairs that few had, people who own a pair."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, triu

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.item_item import binary, countable
from molar_retrieval.models.k_anonymity import users_of_pairs

_BLOCK = 4096


@dataclass(frozen=True)
class Leakage:
    """What is measured of pairs of two different items that somebody had both.

    Attributes:
        pairs: How many there are.
        few: How many of them fewer people than asked for had.
        people: People with two items or more.
        alone: How many of these had a pair that nobody else had.
    """

    pairs: int
    few: int
    people: int
    alone: int


def leakage_of(log: Interactions, least: int) -> Leakage:
    """Measure it; of very long histories the latest interactions count, as in training (:func:`countable`)."""
    log = countable(log)
    pairs = csr_matrix(triu(users_of_pairs(log), k=1))
    single = pairs.copy()
    single.data = (single.data == 1).astype(np.float32)
    single.eliminate_zeros()
    had = binary(log)
    alone = 0
    for begin in range(0, had.shape[0], _BLOCK):
        own = had[begin : begin + _BLOCK]
        alone += int(np.count_nonzero(np.asarray((own @ single).multiply(own).sum(axis=1))))
    people = int(np.count_nonzero(np.diff(had.indptr) >= 2))
    return Leakage(pairs.nnz, int(np.count_nonzero(pairs.data < least)), people, alone)
