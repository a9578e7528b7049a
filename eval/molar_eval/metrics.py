"""Metrics of ranked lists: accuracy, list and catalogue metrics, revenue.

All gains are binary: an item is a target or it is not. The figures are those of trec_eval (``recall``, ``ndcg_cut``,
``map_cut``, ``P``, ``success``) and of ranx under the same names.

``items`` are the lists, best first, -1 where a list is shorter, shape (C, k); ``popularity`` are users of each item in
training, shape (n_items,).

``items`` are the lists, best first, -1 where a list is shorter, shape (C, k); ``candidates`` says of each item of the
catalogue whether it may be recommended.

These numbers look back. The users took those items without seeing our list, so nobody was persuaded by it and nothing
here is uplift, neither a causal effect nor a forecast of sales:

* The value of the hits is an upper bound of what the list may claim of *these* purchases: some or all of them would be
  made with no list at all.
* It is a lower bound of nothing but itself: a listed item that a user never came across was not bought and cannot be
  a hit, so sales under the list may be higher; users ignore much of what they are shown, so they may be lower.
* Only users who took something after the cut are counted, so the "conversion" is a share of buyers, not of visitors.
* All first k items count as seen. Nobody looks at all of them.
* The log was made under some earlier list or shop window. Items that it showed are favoured.

Use them to compare models on the same cases. For the value of a list that was not shown, see
:mod:`molar_eval.kpi.off_policy`; for the truth, run an A/B test.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from molar_eval.cases import Cases, Mask, Rows, Scores, Seen
from molar_eval.ranking import Ranked
from molar_eval.statistics import ConfidenceInterval, clustered_intervals, clustered_ratio, sums_by, user_groups
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError, SettingsError

Values = npt.NDArray[np.float32]
ACCURACY = ("recall", "ndcg", "mrr", "hit_rate", "precision", "map")
"""The metrics of this module, as they stand before ``@k``."""


def accuracy(ranks: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], cutoffs: Sequence[int]) -> dict[str, Values]:
    """Accuracy per case at each cutoff k: ``name@k`` → a value per case, shape (C,).

    ``ranks`` are those of the T targets, 0 for a miss, distinct within a case. With n targets in a case, of which those
    with ``1 ≤ rank ≤ k`` are hits:

    * ``recall@k``: hits / n.
    * ``ndcg@k``: sum over hits of 1 / log2(1 + rank), divided by that sum for the ranks 1 to min(k, n), the best
      possible (Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques").
    * ``mrr@k``: 1 / rank of the first hit, 0 without one (Voorhees 1999, "The TREC-8 question answering track report").
    * ``hit_rate@k``: 1 where there is a hit, else 0.
    * ``precision@k``: hits / k, also where fewer than k items could be listed.
    * ``map@k``: average precision, the sum over hits of the precision at their rank, divided by n, not by min(k, n)
      (Buckley and Voorhees 2000, "Evaluating evaluation measure stability"; ``map_cut`` of trec_eval).

    A case without targets scores 0 throughout. A cutoff less than 1 raises :class:`SettingsError`.
    """
    check_cutoffs(cutoffs)
    counts = np.diff(offsets)
    case = np.repeat(np.arange(len(counts)), counts)
    place = _places(ranks, case)
    n = np.maximum(counts, 1)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, max([*cutoffs, 1]) + 2)))])
    result: dict[str, Values] = {}
    for k in cutoffs:
        hit = (ranks >= 1) & (ranks <= k)
        at, r = case[hit], ranks[hit]
        hits = np.bincount(at, minlength=len(counts))
        first = np.zeros(len(counts))
        np.maximum.at(first, at, 1 / r)
        values = {
            "recall": hits / n,
            "ndcg": np.bincount(at, 1 / np.log2(1 + r), len(counts)) / ideal[np.minimum(k, n)],
            "mrr": first,
            "hit_rate": hits > 0,
            "precision": hits / k,
            "map": np.bincount(at, place[hit] / r, len(counts)) / n,
        }
        result |= {f"{name}@{k}": values[name].astype(np.float32) for name in ACCURACY}
    return result


def check_cutoffs(cutoffs: Sequence[int]) -> None:
    """Refuse cutoffs less than 1, which no list can have, with :class:`SettingsError`."""
    if wrong := [k for k in cutoffs if k < 1]:
        raise SettingsError(f"{wrong[0]} is no length of a list", "use cutoffs of at least 1")


def _places(ranks: npt.NDArray[np.int64], case: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many found targets of its case stand at or before each target; meaningless for misses, shape (T,)."""
    order = np.lexsort((np.where(ranks > 0, ranks, np.iinfo(np.int64).max), case))
    place = np.empty(len(ranks), np.int64)
    sorted_case = case[order]
    place[order] = np.arange(len(ranks)) - np.searchsorted(sorted_case, sorted_case) + 1
    return place


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


@dataclass(frozen=True, eq=False)
class ListContext:
    """What lists are judged by; without content no diversity is told, without categories no calibration.

    ``popularity`` is the number of users with each item in their training history, ``n_users`` that of users with one.
    ``content`` has rows of length 1 or 0, shape (n_items, f).
    """

    popularity: npt.NDArray[np.int64]
    n_users: int
    candidates: Mask
    seen: Seen = "hide"
    content: Scores | None = None
    categories: Categories | None = None

    @classmethod
    def of(
        cls,
        training: Interactions,
        candidates: Mask,
        seen: Seen = "hide",
        content: Scores | None = None,
        categories: Categories | None = None,
    ) -> Self:
        """The context that a training log makes; an item that a user had twice counts once."""
        n_items, n_users = training.n_items, int(np.count_nonzero(np.diff(training.offsets)))
        pairs = np.sort(training.user.astype(np.int64) * n_items + training.item)
        first = np.diff(pairs, prepend=-1) > 0
        popularity = np.bincount(pairs[first] % max(1, n_items), minlength=n_items).astype(np.int64)
        return cls(popularity, n_users, candidates, seen, content, categories)


def list_metrics(
    ranked: Ranked, cases: Cases, context: ListContext, cutoffs: Sequence[int]
) -> tuple[dict[str, Values], dict[str, float]]:
    """All metrics of lists that the context allows; the formulas stand at the functions.

    Returns ``name@k`` → a value per case, shape (C,), NaN where it is not defined: ``novelty``, ``serendipity``,
    ``diversity`` (with content) and ``calibration`` (with categories). And ``name@k`` → one value of the whole run:
    ``coverage``, ``gini`` and ``popularity_lift``, NaN where not defined.

    A cutoff less than 1 or above the length of the lists raises :class:`SettingsError`.
    """
    check_cutoffs(cutoffs)
    longest = ranked.items.shape[1]
    if max(cutoffs, default=0) > longest:
        raise SettingsError(f"lists of {longest} items cannot be judged at {max(cutoffs)}", "rank with a larger k")
    each: dict[str, Values] = {}
    overall: dict[str, float] = {}
    for k in cutoffs:
        items = ranked.items[:, :k]
        each[f"novelty@{k}"] = novelty(items, context.popularity, context.n_users)
        taste = context.popularity, context.candidates, context.seen
        each[f"serendipity@{k}"] = serendipity(cases, ranked.ranks, k, *taste)
        if context.content is not None:
            each[f"diversity@{k}"] = diversity(items, context.content)
        if context.categories is not None:
            each[f"calibration@{k}"] = calibration(items, cases, context.categories)
        overall[f"coverage@{k}"] = coverage(items, context.candidates)
        overall[f"gini@{k}"] = gini(items, context.candidates)
        overall[f"popularity_lift@{k}"] = popularity_lift(items, cases, context.popularity)
    return each, overall


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


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Purchases:
    """What users took after the cut, T items in C cases, and where a model had ranked it.

    A case is of a ``user``, shape (C,), who may have several; ``offsets`` are the borders between the cases' items,
    shape (C + 1,). ``rank`` is the place of each item in its case's list, from 1, ties counted against the model, 0:
    not listed, shape (T,); ``value`` what it brought, not negative: price × quantity, or 1 to count events.
    """

    user: npt.NDArray[np.integer]
    offsets: npt.NDArray[np.integer]
    rank: npt.NDArray[np.integer]
    value: npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class UserKpis:
    """Figures of U users, ascending, at one k, each of shape (U,), for estimates and paired tests between models.

    ``converted`` is 1 where at least one of the user's items is among the first k of its case's list, ``captured`` the
    value of those that are, ``total`` that of all the user's items.
    """

    user: npt.NDArray[np.integer]
    converted: Floats
    captured: Floats
    total: Floats


def user_kpis(purchases: Purchases, k: int) -> UserKpis:
    """Figures of each user at ``k``.

    Raises :class:`SettingsError` if ``k`` is not positive, :class:`DataError` if there are no cases, the shapes do not
    fit, or a rank or value is negative or not finite.
    """
    if k < 1:
        raise SettingsError(f"k is {k}", "choose a list length of 1 or more")
    _check(purchases)
    names, codes = np.unique(purchases.user, return_inverse=True)
    user = np.repeat(codes, np.diff(purchases.offsets))
    hit = (purchases.rank >= 1) & (purchases.rank <= k)
    value = np.asarray(purchases.value, np.float64)
    return UserKpis(
        user=names,
        converted=(np.bincount(user[hit], minlength=len(names)) > 0).astype(np.float64),
        captured=sums_by(user, value * hit, len(names)),
        total=sums_by(user, value, len(names)),
    )


def estimate_kpis(
    purchases: Purchases, ks: Sequence[int], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, ConfidenceInterval]:
    """Conversion and hit-weighted revenue at each list length; see the module's text for what they are not.

    Let U be the number of users with a case and k the list length. Then

    * ``conversion@k`` = users with at least one hit / U, in [0, 1];
    * ``revenue_per_user@k`` = value of all hits / U, in the unit of ``value``;
    * ``revenue_share@k`` = value of all hits / value of all items taken, in [0, 1]; absent if nothing has a value.

    ``level`` is the nominal coverage of the intervals; bootstrap samples draw whole users. Raises
    :class:`SettingsError` without any k, and what :func:`user_kpis` does.
    """
    if not ks:
        raise SettingsError("no list length is given", "choose one, for example 10")
    figures = [user_kpis(purchases, k) for k in ks]
    groups = user_groups(len(figures[0].user), seed)
    columns = np.stack([column for at_k in figures for column in (at_k.converted, at_k.captured)], axis=1)
    means = clustered_intervals(columns, groups, level=level, resamples=resamples, seed=seed)
    estimates: dict[str, ConfidenceInterval] = {}
    for place, (k, at_k) in enumerate(zip(ks, figures, strict=True)):
        estimates[f"conversion@{k}"], estimates[f"revenue_per_user@{k}"] = means[2 * place : 2 * place + 2]
        if at_k.total.any():
            share = clustered_ratio(at_k.captured, at_k.total, groups, level=level, resamples=resamples, seed=seed)
            estimates[f"revenue_share@{k}"] = ConfidenceInterval(share.mean, share.low, min(share.high, 1.0))
    return estimates


def target_values(cases: Cases, value: npt.NDArray[np.floating]) -> Floats:
    """What each target of a case brought, shape (T,): the sum over the user's interactions with it from the case on.

    ``value`` has one number for each interaction of ``cases.history``, else :class:`DataError` is raised.
    """
    history = cases.history
    if len(value) != len(history):
        raise DataError(f"{len(value)} values for {len(history)} interactions", "give one value per interaction")
    start = history.offsets[cases.user] + cases.length
    later = history.offsets[cases.user + 1] - start
    case = np.repeat(np.arange(len(cases)), later)
    row = np.arange(len(case)) + np.repeat(start - (np.cumsum(later) - later), later)
    key = case * np.int64(history.n_items) + history.item[row]
    wanted = cases.case_of_target * np.int64(history.n_items) + cases.targets
    order = np.argsort(wanted)
    place = np.searchsorted(wanted, key, sorter=order)
    target = order[np.minimum(place, len(order) - 1)] if len(order) else place
    found = wanted[target] == key if len(order) else np.zeros(len(key), bool)
    return sums_by(target[found], np.asarray(value, np.float64)[row[found]], len(wanted))


def _check(purchases: Purchases) -> None:
    offsets, items = purchases.offsets, len(purchases.rank)
    if not len(purchases.user):
        raise DataError("there are no cases to estimate from", "choose a split with purchases after its cut")
    fitting = len(offsets) == len(purchases.user) + 1 and len(purchases.value) == items
    if not fitting or offsets[0] != 0 or offsets[-1] != items or (np.diff(offsets) < 0).any():
        raise DataError("cases, ranks and values do not fit together", "give one rank and one value per item of a case")
    if items and purchases.rank.min() < 0:
        raise DataError("a rank is negative", "count ranks from 1 and give 0 to an item that is not listed")
    wrong = ~(np.isfinite(purchases.value) & (purchases.value >= 0))
    if wrong.any():
        bad = int(np.argmax(wrong))
        raise DataError(
            f"value {bad + 1} of the purchases is {purchases.value[bad]}",
            "give amounts of 0 or more; take returned goods off the purchase that they belong to",
        )
