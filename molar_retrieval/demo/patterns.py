"""How cloth and glaze are patterned: plain, striped, dotted or checked."""

from collections.abc import Callable

import numpy as np

from molar_retrieval.demo.pixels import SIZE, Pixels, X, Y
from molar_retrieval.demo.vocabulary import Pattern

CREAM: Pixels = np.array((250, 245, 234), dtype=np.float32)


def fabric(pattern: Pattern, main: Pixels, rng: np.random.Generator) -> Pixels:
    """The pattern over the whole picture, shape (SIZE, SIZE, 3)."""
    second = (CREAM if rng.random() < 0.75 else main * 0.4).astype(np.float32)
    if pattern == "plain":
        cloth: Pixels = np.tile(main, (SIZE, SIZE, 1))
        return cloth
    angle = {"stripes": rng.choice((0.0, 90.0, 45.0)), "dots": 0.0, "checks": 0.0}[pattern] + rng.normal(0, 4)
    cos, sin = np.float32(np.cos(np.radians(angle))), np.float32(np.sin(np.radians(angle)))
    u, v = cos * X + sin * Y, cos * Y - sin * X
    amount = _PATTERNS[pattern](u, v, rng)[..., None]
    return (main + (second - main) * amount).astype(np.float32)


def _edge(distance: Pixels) -> Pixels:
    """From 0 to 1 across a border, one pixel wide, so that the pattern is not jagged."""
    covered: Pixels = np.clip(distance * (SIZE / 2) + 0.5, 0, 1).astype(np.float32)
    return covered


def _band(u: Pixels, period: float, share: float) -> Pixels:
    phase = np.abs((u / period) % 1 - 0.5)
    return _edge((share / 2 - phase) * period)


def _stripes(u: Pixels, v: Pixels, rng: np.random.Generator) -> Pixels:
    return _band(v + rng.uniform(0, 1), rng.uniform(0.15, 0.22), rng.uniform(0.42, 0.55))


def _dots(u: Pixels, v: Pixels, rng: np.random.Generator) -> Pixels:
    period = rng.uniform(0.17, 0.24)
    row = np.floor(v / (period * 0.87))
    du = (u / period + 0.5 * (row % 2)) % 1 - 0.5
    dv = v / (period * 0.87) - row - 0.5
    distance = np.sqrt((du * period) ** 2 + (dv * period * 0.87) ** 2)
    return _edge((period * rng.uniform(0.28, 0.33) - distance).astype(np.float32))


def _checks(u: Pixels, v: Pixels, rng: np.random.Generator) -> Pixels:
    period = rng.uniform(0.2, 0.28)
    return 0.5 * (_band(u, period, 0.5) + _band(v, period, 0.5))


_PATTERNS: dict[Pattern, Callable[[Pixels, Pixels, np.random.Generator], Pixels]] = {
    "stripes": _stripes,
    "dots": _dots,
    "checks": _checks,
}
