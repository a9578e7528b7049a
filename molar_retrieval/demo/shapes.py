"""The curves and parts of which the demo shop's things are drawn.

Coordinates run from -1 to 1, x to the right and y downwards; a photo turns, scales and colours them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Paint = Literal["fabric", "accent", "shade", "light", "wood", "metal", "dark", "leaf", "glow"]

_STEPS = 8


@dataclass(frozen=True)
class Part:
    """One area or stroke.

    Attributes:
        points: Shape (n, 2).
        paint: What it is filled with; ``fabric`` carries the pattern.
        width: Of the stroke; 0 fills the outline.
        volume: How round it looks, 0 (flat) to 1 (a cylinder).
    """

    points: Points
    paint: Paint
    width: float = 0.0
    volume: float = 0.0


def smooth(points: Sequence[tuple[float, ...]], *, closed: bool = True) -> Points:
    """A Catmull-Rom curve through points; a third number that is not zero makes a point a corner.

    Returns:
        Shape (n, 2).
    """
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


def mirrored(right: Sequence[tuple[float, ...]]) -> Points:
    """The closed curve whose right half, from top to bottom, is given."""
    left = [(-p[0], *p[1:]) for p in reversed(right) if p[0] != 0]
    return smooth([*right, *left])


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360) -> Points:
    """An ellipse or an arc of one; angles in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, stop, 40))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def line(*points: tuple[float, ...]) -> Points:
    """An open curve through points."""
    return smooth(points, closed=False)
