"""Metrics of single lists: a value per case, NaN where it is not defined.

``items`` are the lists, best first, -1 where a list is shorter, shape (C, k); ``popularity`` are users of each item in
training, shape (n_items,).
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from molar_eval.cases import Cases, Mask, Rows, Scores, Seen
from molar_eval.metrics.accuracy import Values, accuracy

Lists: TypeAlias = npt.NDArray[np.int32]
Categories: TypeAlias = tuple[Rows, npt.NDArray[np.integer]]
"""Offsets (n_items + 1,) into codes from 0 up: the categories of each item, which may be none or several."""
_SMOOTHING = 0.01
_CASES = 2048


def novelty(items: Lists, popularity: npt.NDArray[np.int64], n_users: int) -> Values:
    """Mean self-information of the listed items in bits: the mean of -log2(users of the item / all users).

    An item that nobody had in training counts as had by one. Zhou et al. 2010, "Solving the apparent diversity-accuracy
    dilemma of recommender systems"; Vargas and Castells 2011, "Rank and relevance in novelty and diversity metrics".
    """
    bits = np.log2(max(1, n_users)) - np.log2(np.maximum(popularity, 1))
    return list_means(items, bits)


def listed_accuracy(items: Lists, cases: Cases, cutoffs: Sequence[int]) -> dict[str, float]:
    """Mean accuracy of lists by the places in them, where no ranks beyond are known; see :func:`accuracy`."""
    hits = items[cases.case_of_target] == cases.targets[:, None]
    ranks = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int64)
    return {name: float(values.mean()) for name, values in accuracy(ranks, cases.offsets, cutoffs).items()}


def list_means(items: Lists, value: npt.NDArray[Any]) -> Values:
    """Mean of a value, one per item of the catalogue, over each list's items; NaN for an empty list."""
    there = items >= 0
    with np.errstate(invalid="ignore"):
        means: Values = (np.where(there, value[items], 0).sum(1, dtype=np.float64) / there.sum(1)).astype(np.float32)
    return means


def diversity(items: Lists, content: Scores) -> Values:
    """Intra-list diversity: 1 - the mean cosine similarity of all pairs of listed items.

    The sum over pairs follows from the length of the sum of the vectors: sum of cosines over i ≠ j = |sum of v|² - m.
    Vectors have length 1, or 0 where there is no content, shape (n_items, f). Items without content are left out; not
    defined for fewer than two. Smyth and McClave 2001, "Similarity vs. diversity"; Ziegler et al. 2005, "Improving
    recommendation lists through topic diversification".
    """
    known = content.any(1)
    result = np.empty(len(items), np.float32)
    for block in blocks(len(items)):
        lists = _incidence(items[block], len(content))
        m = lists @ known.astype(np.float64)
        length = np.square(lists @ content, dtype=np.float64).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            result[block] = np.where(m > 1, 1 - (length - m) / (m * (m - 1)), np.nan)
    return result


def serendipity(
    cases: Cases, ranks: Rows, k: int, popularity: npt.NDArray[np.int64], candidates: Mask, seen: Seen
) -> Values:
    """Share of a list's k places with a target that the k most popular candidates would not have shown.

    That is the share of items both useful and unexpected, where what is expected comes from a primitive recommender:
    Ge et al. 2010, "Beyond accuracy: evaluating recommender systems by coverage and serendipity"; in this form in
    Kaminskas and Bridge 2016, "Diversity, serendipity, novelty, and coverage". It is at most ``precision@k``.

    ``ranks`` are those of the T targets, 0 for a miss. Equally popular items stand by item row; ``seen`` says whether
    the popular list leaves out what the user had, too.
    """
    n_items = len(popularity)
    place = np.empty(n_items, np.int64)
    place[np.lexsort((-popularity, ~candidates))] = np.arange(n_items)
    result = np.zeros(len(cases), np.float32)
    for block in blocks(len(cases)):
        offsets = cases.offsets[block.start : block.stop + 1]
        targets = slice(offsets[0], offsets[-1])
        hit = (ranks[targets] >= 1) & (ranks[targets] <= k)
        case = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))[hit]
        before = place[cases.targets[targets][hit]]
        if seen == "hide":
            log = cases.seen(block)
            taken = np.sort(log.user.astype(np.int64) * n_items + place[log.item])
            taken = taken[np.diff(taken, prepend=-1) > 0]
            start = case * n_items
            before = before - np.searchsorted(taken, start + before) + np.searchsorted(taken, start)
        result[block] = np.bincount(case[before >= k], minlength=len(offsets) - 1) / k
    return result


def calibration(items: Lists, cases: Cases, categories: Categories) -> Values:
    """Miscalibration: Kullback-Leibler divergence, in nats, of a list's categories from those of the input; 0 is best.

    With p the mean over the input's items of each item's evenly split categories, q the same of the list and
    q' = .99 q + .01 p: the sum over categories of p · ln(p / q'). Items without a category are left out; not defined
    where input or list have none. Steck 2018, "Calibrated recommendations".
    """
    offsets, codes = categories
    counts = np.diff(offsets)
    shares = csr_array((np.repeat(1 / np.maximum(counts, 1), counts), codes, offsets))
    result = np.empty(len(items), np.float32)
    for block in blocks(len(items)):
        inputs = cases.inputs(block)
        read = csr_array((np.ones(len(inputs)), inputs.item, inputs.offsets), shape=(inputs.n_users, len(counts)))
        p, q = ((held @ shares).toarray() for held in (read, _incidence(items[block], len(counts))))
        with np.errstate(invalid="ignore", divide="ignore"):
            p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
            terms = p * np.log(p / ((1 - _SMOOTHING) * q + _SMOOTHING * p))
        undefined = np.isnan(p).any(1) | np.isnan(q).any(1)
        result[block] = np.where(undefined, np.nan, np.where(p > 0, terms, 0).sum(1))
    return result


def _incidence(items: Lists, n_items: int) -> csr_array:
    """Which items each list holds, as float32 (C, n_items)."""
    there = items >= 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(1))])
    rows = items[there]
    return csr_array((np.ones(len(rows), np.float32), rows, offsets), shape=(len(items), n_items))


def blocks(n_cases: int) -> Iterator[slice]:
    """Slices that cover all cases, so that sums of vectors and the like need not be held for all of them."""
    for start in range(0, n_cases, _CASES):
        yield slice(start, min(start + _CASES, n_cases))
