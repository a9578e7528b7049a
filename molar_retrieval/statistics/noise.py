"""Noise from the operating system's entropy: the discrete Gaussian on whole numbers.

Floating-point noise betrays what it was added to by its last bits (Mironov 2012, doi:10.1145/2382196.2382264), and
noise from a seed is taken off again by whoever has the seed. So sums are whole numbers, what is added to them is a
discrete Gaussian (Canonne, Kamath and Steinke 2020, arXiv 2004.00010), and no generator of this project is asked.
"""

import os
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import numpy.typing as npt

GRID = 2**14
"""Standard deviation of the noise, in whole numbers."""
_BITS = 128
_GUARD = 256
_NEGLIGIBLE = 140
_CHUNK = 1 << 20

Whole = npt.NDArray[np.int64]


def discrete_gaussian(count: int) -> Whole:
    """Independent draws x with a probability in proportion to ``exp(-x² / (2 · GRID²))``, shape (count,).

    By inversion of a table of 128-bit probabilities: the distance in total variation is below 2⁻¹⁰⁰ for each draw.
    """
    found = np.empty(count, np.int64)
    for begin in range(0, count, _CHUNK):
        found[begin : begin + _CHUNK] = _draws(min(_CHUNK, count - begin))
    return found


def _draws(count: int) -> Whole:
    high, _ = _table()
    uniform = np.frombuffer(os.urandom(8 * count), np.uint64)
    size = np.searchsorted(high, uniform, side="right")
    for place in np.flatnonzero((size > 0) & (high[np.maximum(size, 1) - 1] == uniform)):
        size[place] = _undecided(int(uniform[place]))
    sign = np.unpackbits(np.frombuffer(os.urandom(-(-count // 8)), np.uint8), count=count)
    return np.where(sign == 1, -size, size)


def _undecided(uniform: int) -> int:
    """The draw where the first 64 bits are those of a border, by 64 more."""
    high, low = _table()
    number = uniform << 64 | int.from_bytes(os.urandom(8), "big")
    first = int(np.searchsorted(high, np.uint64(uniform), side="left"))
    same = range(first, int(np.searchsorted(high, np.uint64(uniform), side="right")))
    return first + sum(int(high[place]) << 64 | int(low[place]) <= number for place in same)


@lru_cache(maxsize=1)
def _table() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Probabilities of at most 0, 1, 2 … from zero in units of 2⁻¹²⁸: the first 64 bits of each, and the others."""
    one = 1 << _GUARD
    with localcontext() as context:
        context.prec = 100
        ratio = int((Decimal(-1) / (2 * GRID**2)).exp() * one)
    square = ratio * ratio >> _GUARD
    weight, total = one, 0
    sums: list[int] = []
    while weight > one >> _NEGLIGIBLE:
        total += weight if not sums else 2 * weight
        sums.append(total)
        weight, ratio = weight * ratio >> _GUARD, ratio * square >> _GUARD
    borders = [(value << _BITS) // total for value in sums[:-1]]
    mask = (1 << 64) - 1
    return np.array([b >> 64 for b in borders], np.uint64), np.array([b & mask for b in borders], np.uint64)
