"""The reranker: features of candidates that a dot product cannot see, and a small network over them, in NumPy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.ranking.candidates import Candidates, kept
from molar_retrieval.ranking.item_store import ItemStore

Array = npt.NDArray[Any]
CANDIDATES = 200  # so many candidates are re-ranked
PART_SCORE = " score"
"""How the name of a feature that is a part of the score ends."""
_LIMIT = 5.0  # features are cut at so many standard deviations
_FIRST = 10
_ARRAYS = ("mean", "deviation", "hidden", "bias", "out", "skip", "scale")


@dataclass(frozen=True, eq=False)
class Reranker:
    """E networks over F features, H hidden units each."""

    names: tuple[str, ...]  # of the features
    numbers: Mapping[str, tuple[float, float]]  # mean and deviation of each number among the features, by field
    mean: Array  # of each feature, shape (F,)
    deviation: Array  # shape (F,)
    hidden: Array  # weights, shape (E, F, H)
    bias: Array  # shape (E, H)
    out: Array  # weights, shape (E, H)
    skip: Array  # of the linear map, shape (E, F)
    scale: Array  # logits per unit of score, shape (E,)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Parts of the scores that are among the features."""
        return tuple(name.removesuffix(PART_SCORE) for name in self.names if name.endswith(PART_SCORE))

    def __call__(self, features: Array) -> Array:
        """What is added to the score of each candidate, shape (U, C); 0 is the mean of the first ten of its list.

        Features are of U lists of C candidates each, best first, shape (U, C, F). Products are taken list by list, so
        that what is added does not depend on how many they are.
        """
        given = standardised(features, self.mean, self.deviation).swapaxes(1, 2)
        side_by_side = self.hidden.swapaxes(1, 2).reshape(-1, features.shape[2])
        inner = np.maximum(side_by_side @ given + self.bias.reshape(-1, 1), 0)
        moved = (self.out.reshape(1, -1) @ inner + self.skip.sum(axis=0)[None] @ given)[:, 0] / self.scale.sum()
        moved -= moved[:, :_FIRST].mean(axis=1, keepdims=True)
        return np.asarray(moved)

    def to_tensors(self) -> dict[str, Array]:
        """The arrays by name."""
        return {name: np.asarray(getattr(self, name), np.float32) for name in _ARRAYS}

    def described(self) -> dict[str, Any]:
        """The rest, JSON-able."""
        return {"names": list(self.names), "numbers": {name: list(pair) for name, pair in self.numbers.items()}}

    @classmethod
    def of(cls, described: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of the two."""
        numbers = {name: (mean, deviation) for name, (mean, deviation) in described["numbers"].items()}
        return cls(tuple(described["names"]), numbers, *(tensors[name] for name in _ARRAYS))


def standardised(features: Array, mean: Array, deviation: Array) -> Array:
    """Features in standard deviations from their mean, cut at five."""
    result: Array = (features - mean) / deviation
    return np.clip(result, -_LIMIT, _LIMIT, out=result).astype(np.float32, copy=False)


def standard(values: Array, mean: float, deviation: float) -> Array:
    """A field's numbers as ranking reads them; a missing one is the mean."""
    result: Array = np.nan_to_num((values - mean) / deviation, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    return result


def describe(fields: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each field of numbers; those without a spread, or an endless one, are left out."""
    found = {}
    for name, values in fields.items():
        known = values[np.isfinite(values)]
        with np.errstate(over="ignore"):
            spread = float(known.std()) if len(known) else 0.0
        if 0 < spread < np.inf:
            found[name] = (float(known.mean()), spread)
    return found


def matrix(fields: Mapping[str, Array], described: Mapping[str, Sequence[float]], count: int) -> Array:
    """The numbers of all items, shape (count, numbers); of a field that is not there every item lacks its own."""
    lacking = np.full(count, np.nan)
    columns = [standard(fields.get(name, lacking), *described[name]) for name in described]
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0), np.float32)


Rows = Sequence[int] | npt.NDArray[np.integer]
_RECENT = 10  # last items of a history that a candidate is likened to
ID_TOWER = "id_tower"
_WIDE = 384
"""Numbers of each vector that are multiplied at once: OpenBLAS copies the vectors first where it is asked for more."""
_TOGETHER = 32
"""Lists that the second stage is asked about at once: as many as leave their features in the processor's cache."""


def names(table: ItemStore, numbers: Sequence[str]) -> tuple[str, ...]:
    """Names of the features, in the order of :func:`features`; ``numbers`` names the table's numbers."""
    spaces = ("content", "als", *(name for name in (ID_TOWER,) if name in table.counted))
    return (
        "place",
        *(f"{part}{what}" for part in table.counted for what in (PART_SCORE, " place")),
        *(f"{space} {what}" for space in spaces for what in ("last", "nearest", "mean")),
        *(f"{number} {what}" for number in numbers for what in ("value", "off history", "off recent")),
        "history",
    )


def features(
    table: ItemStore, rows: npt.NDArray[np.int64], parts: Array, histories: Sequence[Rows], counted: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Features of the candidates of U lists of C items each, shape (U, C, F).

    Candidates are known items, best first: ``rows`` of shape (U, C), with the addends of their scores, shape (U, C, P).
    Histories are item rows, oldest first; ``counted`` are the parts of the scores that are features, in the order of
    the table's names. What is made of a list does not depend on the others.
    """
    users, count = rows.shape
    had = [np.asarray(history, np.int64) for history in histories]
    recent = [history[-_RECENT:] for history in had]
    spaces, addends = _spaces(table, counted), [table.names.index(part) for part in counted]
    wide = 2 + 2 * len(counted) + 3 * len(spaces) + 3 * table.numbers.shape[1]
    given = np.zeros((wide, users, count), np.float32)
    place = np.log1p(np.arange(count)).astype(np.float32)
    given[0] = place
    by_part = np.ascontiguousarray(parts.transpose(2, 0, 1)[addends])
    scores, places = given[1 : 1 + 2 * len(counted) : 2], given[2 : 2 + 2 * len(counted) : 2]
    np.subtract(by_part, by_part.mean(axis=2, keepdims=True), out=scores, casting="same_kind")
    each = np.arange(len(counted))[:, None, None], np.arange(users)[:, None]
    places[*each, np.argsort(-by_part, axis=2, kind="stable")] = place
    columns = iter(given[1 + 2 * len(counted) :])
    lengths = np.array([len(some) for some in recent])
    missing = np.arange(_RECENT) >= lengths[:, None]
    latest, ends = np.concatenate(recent), np.cumsum(lengths).tolist()
    for space in spaces:
        last, nearest, mean = next(columns), next(columns), next(columns)
        others, likeness = space(latest), np.zeros((users, _RECENT, count), np.float32)
        for user, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if begin < end:  # one by one, as their vectors stay in the processor's cache
                likeness[user, : end - begin] = _products(space(rows[user]), others[begin:end]).T
        last[:] = likeness[np.arange(users), lengths - 1]
        np.divide(np.add.reduce(likeness, axis=1), np.maximum(lengths, 1)[:, None], out=mean)
        likeness[missing] = -np.inf
        np.maximum.reduce(likeness, axis=1, out=nearest)
        nearest[lengths == 0] = 0.0
    usual = [np.array([_mean(table.numbers, past) for past in pasts]) for pasts in (had, recent)]
    for number in range(table.numbers.shape[1]):
        values = table.numbers[rows, number]
        next(columns)[:] = values
        for means in usual:
            next(columns)[:] = np.abs(values - means[:, number, None])
    next(columns)[:] = np.log1p([len(history) for history in had])[:, None]
    return given.transpose(1, 2, 0)


def moves(
    table: ItemStore, reranker: Reranker, lists: Sequence[Candidates], histories: Sequence[Rows]
) -> list[npt.NDArray[np.floating]]:
    """What the second stage adds to each candidate of some lists, those of one length together.

    Candidates are best first, histories oldest first. Known items change places among themselves, cold items keep
    theirs.
    """
    known = [one.take(np.flatnonzero(~one.cold)) if one.cold.any() else one for one in lists]
    moved = [np.zeros(0)] * len(lists)
    of_length: dict[int, list[int]] = {}
    for number, one in enumerate(known):
        of_length.setdefault(len(one), []).append(number)
    of_length.pop(0, None)
    for every in of_length.values():
        for begin in range(0, len(every), _TOGETHER):
            some = every[begin : begin + _TOGETHER]
            rows = np.array([known[number].rows for number in some])
            parts = np.array([known[number].parts for number in some])
            # As it was learned: the table counts a trend of weight 0 unless other aims have weights of their own.
            given = features(table, rows, parts, [histories[number] for number in some], reranker.parts)
            together = reranker(given).astype(np.float64)
            for number, own in zip(some, together, strict=True):
                moved[number] = own
    return [
        own if one is alone else kept(one.scores, own, one.cold)
        for one, alone, own in zip(lists, known, moved, strict=True)
    ]


def _products(items: Array, others: Array) -> Array:
    """The dot products of some items' vectors with others, shape (len(items), len(others))."""
    turned, wide = np.ascontiguousarray(others.T), items.shape[1]
    products: Array = items[:, :_WIDE] @ turned[:_WIDE]
    for begin in range(_WIDE, wide, _WIDE):
        products += items[:, begin : begin + _WIDE] @ turned[begin : begin + _WIDE]
    return products


def _mean(numbers: Array, rows: Array) -> Array:
    """Of some items; 0 where there are none."""
    mean: Array = np.add.reduce(numbers[rows], axis=0) / np.float32(max(1, len(rows)))
    return mean


def _spaces(table: ItemStore, counted: Sequence[str]) -> list[Callable[[Array], Array]]:
    """Of each space in :func:`names` what gives the vectors of some items, of length 1 or 0."""
    names = ["als", ID_TOWER] if ID_TOWER in counted else ["als"]
    return [partial(np.take, table.content, axis=0), *(partial(table.units, name) for name in names)]
