"""What a model's lists are like beside being right: reach, novelty, variety, surprise, and fit to a user's taste."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases, Mask, Scores, Seen
from molar_eval.metrics.accuracy import Values, check_cutoffs
from molar_eval.metrics.per_list import Categories, calibration, diversity, novelty, serendipity
from molar_eval.metrics.whole_run import coverage, gini, popularity_lift
from molar_eval.ranking import Ranked
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import SettingsError


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
