"""The curves and pieces of which the demo shop's things are drawn, read from ``silhouettes.toml``.

Coordinates run from -1 to 1, x to the right and y downwards; a photo turns, scales and colours them.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Paint = Literal["fabric", "accent", "shade", "light", "wood", "metal", "dark", "leaf", "glow"]

_STEPS = 8


@dataclass(frozen=True)
class Piece:
    """One area or stroke: its points of shape (n, 2), and what it is filled with (``fabric`` carries the pattern).

    Its ``width`` is that of the stroke, 0 fills the outline; ``volume`` is how round it looks, 0 to 1 (a cylinder).
    """

    points: Points
    paint: Paint
    width: float = 0.0
    volume: float = 0.0


def read_silhouettes() -> dict[str, list[Piece]]:
    """The pieces of each kind of thing, from back to front."""
    text = (resources.files(__package__) / "silhouettes.toml").read_text("utf-8")
    return {kind: [piece for row in rows for piece in _pieces(row)] for kind, rows in tomllib.loads(text).items()}


def _pieces(row: Mapping[str, Any]) -> Iterator[Piece]:
    width, volume = row.get("width", 0.0), row.get("volume", 0.0)
    for flipped in (True, False) if row.get("both") else (False,):
        for points in _curves(row, flipped=flipped):
            yield Piece(points, row["paint"], width, volume)


def _curves(row: Mapping[str, Any], *, flipped: bool) -> Iterator[Points]:
    if "ellipse" in row:
        yield _ellipse(*row["ellipse"])
    elif "step" in row:
        for i in range(row["count"]):
            yield smooth(np.array(row["line"]) + np.array(row["step"]) * i, closed=False)
    elif "between" in row:
        first, last = np.array(row["between"])
        for start in (first + (last - first) * share for share in np.linspace(0, 1, row["count"])):
            yield smooth([start, start + row["reach"]], closed=False)
    elif "line" in row:
        yield smooth(_flipped(row["line"]) if flipped else row["line"], closed=False)
    elif "mirrored" in row:
        right = row["mirrored"]
        yield smooth([*right, *_flipped([point for point in reversed(right) if point[0]])])
    else:
        outline = smooth(_flipped(row["closed"]) if flipped else row["closed"])
        yield np.vstack([outline, outline[:1]]) if "width" in row else outline


def _flipped(points: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[-x, *rest] for x, *rest in points]


def smooth(points: Sequence[Sequence[float]] | Points, *, closed: bool = True) -> Points:
    """A Catmull-Rom curve through points, shape (n, 2); a third number that is not zero makes a point a corner."""
    knots: list[tuple[float, float]] = []
    for point in points:
        knots += [(point[0], point[1])] * (2 if len(point) > 2 and point[2] else 1)
    path = np.array(knots)
    padded = np.vstack([path[-1:], path, path[:2]]) if closed else np.vstack([path[:1], path, path[-1:]])
    before, start, end, after = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, _STEPS, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    curve = np.where((start == end).all(axis=2, keepdims=True), start, curve)  # a corner, not a loop
    flat: Points = curve.reshape(-1, 2)
    return flat if closed else np.vstack([flat, path[-1:]])


def _ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    angle = np.radians(np.linspace(0, 360, 40))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)
