"""How often what: distributions that a report draws."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

_BARS = 24


@dataclass(frozen=True)
class Histogram:
    """A distribution: ``name`` is for programs, ``title`` and ``unit`` are for people.

    Attributes:
        edges: Borders of the bars, one more than there are bars, ascending.
        counts: How many values lie in each bar; a bar holds its lower border, the last one also its upper.
        log: Whether the bars are equally wide on a logarithmic axis.
    """

    name: str
    title: str
    unit: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    log: bool = False

    @classmethod
    def of(cls, name: str, title: str, values: npt.ArrayLike, unit: str, *, log: bool = False) -> Self:
        """Count values in 24 bars at most, from the least to the largest; values that are not finite are left out.

        With ``log``, values below 1 count as 1.
        """
        numbers = np.asarray(values, np.float64).ravel()
        numbers = numbers[np.isfinite(numbers)]
        if log:
            numbers = np.maximum(numbers, 1)
        borders = _borders(numbers, log)
        counts, borders = np.histogram(np.clip(numbers, borders[0], borders[-1]), borders)
        return cls(name, title, unit, tuple(borders.tolist()), tuple(counts.tolist()), log)

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "edges": list(self.edges), "counts": list(self.counts)}


def _borders(numbers: npt.NDArray[np.float64], log: bool) -> npt.NDArray[np.float64]:
    if not len(numbers):
        return np.array([0.0, 1.0])
    low, high = float(numbers.min()), float(numbers.max())
    if log and high == low:
        return np.array([low / 2, low * 0.9, low * 1.1, low * 2])
    if log:
        places = np.geomspace(low, high, _BARS + 1)
        if high < 1 << 20:  # whole numbers: no bar narrower than one
            places = np.unique(np.round(places))
        return places if len(places) > 1 else np.array([low, low + 1])
    if high == low:
        return np.array([low - 0.5, low + 0.5])
    whole = bool((numbers == np.round(numbers)).all())
    bars = min(_BARS, max(1, int(high - low))) if whole else _BARS
    return np.linspace(low, high, bars + 1)
