"""A ranker's lists as a policy: with what probability it would show which item in which context."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_retrieval.errors import DataError, SettingsError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TargetPolicy:
    """A policy that shows one item per request, drawn from the context's list, or all of the list.

    ``items`` are the lists' item rows, -1 where one is shorter, shape (C, k); ``probabilities`` those of showing each,
    shape (C, k): each row adds up to the number of items that are shown, 0 where the list is empty.
    """

    items: npt.NDArray[np.integer]
    probabilities: Floats

    def of(self, context: npt.NDArray[np.integer], item: npt.NDArray[np.integer]) -> Floats:
        """The probability of showing ``item`` in ``context``, shapes (n,); 0 for an item that is not in the list."""
        found = np.zeros(len(context))
        for items, probabilities in zip(self.items.T, self.probabilities.T, strict=True):
            found += np.where((items[context] == item) & (item >= 0), probabilities[context], 0.0)
        return found

    def share_never_shown(self, shown: npt.NDArray[np.integer]) -> float:
        """The share of the policy's choices that fall on items outside ``shown`` (item rows): no log can value them."""
        total = float(self.probabilities.sum())
        outside = ~np.isin(self.items, shown)
        return float(self.probabilities[outside].sum()) / total if total else 0.0


def uniform_policy(items: npt.NDArray[np.integer]) -> TargetPolicy:
    """Each item of a list equally often; lists of length 1 are the deterministic policy that shows the first."""
    return softmax_policy(items, np.zeros(items.shape), 1.0)


def whole_lists(items: npt.NDArray[np.integer]) -> TargetPolicy:
    """All items of a list at once, shape (C, k), -1 where one is shorter."""
    return TargetPolicy(items, (items >= 0).astype(np.float64))


def softmax_policy(
    items: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], temperature: float
) -> TargetPolicy:
    """Items by ``exp(score / temperature)`` within each list (Boltzmann exploration).

    Both arrays have shape (C, k); the temperature has the unit of the scores: towards 0 the best item is always shown,
    towards infinity all equally. Raises :class:`SettingsError` if it is not positive, :class:`DataError` if the shapes
    differ, a list repeats an item, or a listed item's score is not finite.
    """
    if not temperature > 0:
        raise SettingsError(f"the temperature is {temperature}", "give a number above 0")
    if items.ndim != 2 or items.shape != scores.shape:
        raise DataError(f"lists of shape {items.shape} and scores of shape {scores.shape}", "give one score per item")
    listed = items >= 0
    ordered = np.sort(items, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise DataError("a list has an item twice", "list each item once")
    if not np.isfinite(scores[listed]).all():
        raise DataError("the score of a listed item is not finite", "leave out items that cannot be scored")
    finite = np.where(listed, scores, -np.inf).astype(np.float64)
    best = finite.max(axis=1, keepdims=True, initial=-np.inf)
    below = finite - np.where(np.isfinite(best), best, 0.0)
    with np.errstate(over="ignore"):  # beyond the largest number the weight is 0 all the same
        weights = np.exp(below / temperature)
    total = weights.sum(axis=1, keepdims=True)
    return TargetPolicy(items, weights / np.where(total > 0, total, 1.0))
