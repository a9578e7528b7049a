"""The log as a sparse matrix."""

import numpy as np
from scipy.sparse import csr_matrix

from molar_retrieval.interactions.log import InteractionLog


def to_csr(log: InteractionLog) -> csr_matrix:
    """Users × items, float32: the sum of the weights of all interactions of a pair, one each where there are none."""
    values = np.ones(len(log), np.float32) if log.weight is None else log.weight.astype(np.float32)
    matrix = csr_matrix((values, log.item, log.offsets), shape=(log.n_users, log.n_items), copy=True)
    matrix.sum_duplicates()
    return matrix
