"""The second stage: a few small networks, each one hidden layer beside a linear map, whose mean moves candidates.

They are trained in :mod:`molar_retrieval.alignment.reranking`; here they are applied, in NumPy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

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
