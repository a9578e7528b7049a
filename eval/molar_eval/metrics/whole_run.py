"""Metrics of all lists of a run together; NaN where they are not defined.

``items`` are the lists, best first, -1 where a list is shorter, shape (C, k); ``candidates`` says of each item of the
catalogue whether it may be recommended.
"""

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases, Mask
from molar_eval.metrics.per_list import Lists, blocks, list_means


def coverage(items: Lists, candidates: Mask) -> float:
    """Catalogue coverage: share of the candidates that stand in at least one list.

    Ge et al. 2010, "Beyond accuracy: evaluating recommender systems by coverage and serendipity".
    """
    counts = _listed(items, candidates)
    return float(np.count_nonzero(counts) / len(counts)) if len(counts) else float("nan")


def gini(items: Lists, candidates: Mask) -> float:
    """Gini coefficient of how often each candidate is listed: 0, all equally often; near 1, one takes everything.

    With the counts x of n candidates in ascending order: sum over i = 1 … n of (2 i - n - 1) x_i, divided by n times
    the sum of x. Adomavicius and Kwon 2012, "Improving aggregate recommendation diversity using ranking-based
    techniques"; Shani and Gunawardana 2011, "Evaluating recommendation systems".
    """
    return concentration(_listed(items, candidates))


def concentration(counts: npt.NDArray[np.int64]) -> float:
    """The same of counts, shape (n,)."""
    counts = np.sort(counts)
    n, total = len(counts), counts.sum()
    return float(((2 * np.arange(1, n + 1) - n - 1) * counts).sum() / (n * total)) if total else float("nan")


def popularity_lift(items: Lists, cases: Cases, popularity: npt.NDArray[np.int64]) -> float:
    """By what share the lists are more popular than what users took themselves: (listed - taken) / taken.

    Both are averages over cases of the mean training popularity, of the list and of the input; cases without either are
    left out. 0: as popular as the inputs; 1: twice as popular. Abdollahpouri et al. 2020, "The connection between
    popularity bias, calibration, and fairness in recommendation", after their group average popularity of 2019.
    """
    listed, taken = list_means(items, popularity).astype(np.float64), np.full(len(cases), np.nan)
    for block in blocks(len(cases)):
        inputs = cases.inputs(block)
        total = np.concatenate([[0], np.cumsum(popularity[inputs.item])])[inputs.offsets]
        with np.errstate(invalid="ignore"):
            taken[block] = np.diff(total) / np.diff(inputs.offsets)
    both = ~np.isnan(listed) & ~np.isnan(taken)
    before = taken[both].sum()
    return float(listed[both].sum() / before - 1) if before > 0 else float("nan")


def _listed(items: Lists, candidates: Mask) -> npt.NDArray[np.int64]:
    """How often each candidate is listed, shape (number of candidates,)."""
    counts = np.bincount(items[items >= 0], minlength=len(candidates))[candidates]
    return counts.astype(np.int64)
