"""Silhouettes of things for the home, each a stack of parts from back to front."""

import numpy as np

from molar_retrieval.demo.shapes import Part, ellipse, line, mirrored, smooth


def mug() -> list[Part]:
    """A mug with something dark in it."""
    body = [
        (-0.7, -0.6, 1),
        (0.5, -0.6, 1),
        (0.5, 0.3),
        (0.46, 0.72),
        (0.2, 0.82),
        (-0.4, 0.82),
        (-0.66, 0.72),
        (-0.7, 0.3),
    ]
    return [
        Part(line((0.46, -0.3), (0.78, -0.36), (0.92, 0), (0.76, 0.38), (0.44, 0.42)), "accent", 0.14),
        Part(smooth(body), "fabric", volume=0.7),
        Part(ellipse(-0.1, -0.6, 0.6, 0.14), "light"),
        Part(ellipse(-0.1, -0.585, 0.53, 0.1), "dark"),
        Part(smooth([(-0.64, 0.66), (-0.1, 0.74), (0.45, 0.66), (0.2, 0.83), (-0.4, 0.83)]), "accent", volume=0.7),
    ]  # fmt: skip


def lamp() -> list[Part]:
    """A table lamp."""
    shade = [
        (-0.4, -0.92, 1),
        (0, -0.88),
        (0.4, -0.92, 1),
        (0.78, 0.12, 1),
        (0.4, 0.2),
        (0, 0.22),
        (-0.4, 0.2),
        (-0.78, 0.12, 1),
    ]
    return [
        Part(ellipse(0, 0.14, 0.74, 0.14), "glow"),
        Part(smooth([(-0.06, 0.1, 1), (0.06, 0.1, 1), (0.07, 0.5), (0.05, 0.84, 1), (-0.05, 0.84, 1), (-0.07, 0.5)]),
             "wood", volume=0.6),
        Part(ellipse(0, 0.87, 0.34, 0.09), "wood"),
        Part(smooth(shade), "fabric", volume=0.6),
        Part(line((-0.4, -0.92), (0, -0.88), (0.4, -0.92)), "accent", 0.05),
        Part(line((-0.78, 0.12), (-0.4, 0.2), (0, 0.22), (0.4, 0.2), (0.78, 0.12)), "accent", 0.05),
    ]  # fmt: skip


def cushion() -> list[Part]:
    """A cushion with piping."""
    outline = [
        (-0.88, -0.82, 1),
        (0, -0.7),
        (0.88, -0.82, 1),
        (0.76, 0),
        (0.88, 0.82, 1),
        (0, 0.7),
        (-0.88, 0.82, 1),
        (-0.76, 0),
    ]
    edge = smooth(outline)
    return [
        Part(edge, "fabric", volume=0.45),
        Part(np.vstack([edge, edge[:1]]), "accent", 0.055),
        Part(line((-0.8, -0.74), (-0.6, -0.55), (-0.5, -0.35)), "shade", 0.018),
        Part(line((0.8, 0.74), (0.6, 0.56), (0.52, 0.34)), "shade", 0.018),
    ]


def chair() -> list[Part]:
    """An armchair."""
    legs = [
        ((-0.55, 0.6), (-0.66, 0.98)),
        ((0.55, 0.6), (0.66, 0.98)),
        ((-0.3, 0.6), (-0.32, 0.9)),
        ((0.3, 0.6), (0.32, 0.9)),
    ]
    back = [(-0.6, -0.6), (-0.45, -0.88), (0, -0.94), (0.45, -0.88), (0.6, -0.6), (0.62, 0.3, 1), (-0.62, 0.3, 1)]
    seat = [(-0.56, 0.16), (0, 0.1), (0.56, 0.16), (0.6, 0.34), (0.56, 0.46), (0, 0.48), (-0.56, 0.46), (-0.6, 0.34)]
    arm = [(0.52, -0.06), (0.7, -0.2), (0.88, -0.08), (0.86, 0.66, 1), (0.56, 0.68, 1)]
    return [
        *(Part(line(*ends), "wood", 0.085) for ends in legs),
        Part(smooth(back), "fabric", volume=0.35),
        Part(smooth([(-0.58, 0.42, 1), (0.58, 0.42, 1), (0.58, 0.7, 1), (-0.58, 0.7, 1)]), "fabric", volume=0.2),
        Part(smooth(seat), "accent", volume=0.3),
        *(Part(smooth([(s * p[0], *p[1:]) for p in arm]), "fabric", volume=0.6) for s in (-1, 1)),
        *(Part(line((s * 0.55, 0.0), (s * 0.56, 0.66)), "shade", 0.022) for s in (-1, 1)),
    ]  # fmt: skip


def vase() -> list[Part]:
    """A vase with twigs."""
    body = mirrored(
        [
            (0, -0.36),
            (0.26, -0.36, 1),
            (0.22, -0.22),
            (0.5, 0.06),
            (0.58, 0.4),
            (0.42, 0.78),
            (0.32, 0.92, 1),
            (0, 0.94),
        ]
    )
    stems = [
        ((0.02, -0.3), (-0.08, -0.6), (-0.24, -0.88)),
        ((0.04, -0.3), (0.12, -0.62), (0.3, -0.82)),
        ((0, -0.3), (0.02, -0.65), (0.04, -0.98)),
    ]
    leaves = [(-0.24, -0.88), (-0.12, -0.66), (0.3, -0.82), (0.14, -0.6), (0.04, -0.98), (0, -0.74)]
    return [
        *(Part(line(*points), "leaf", 0.03) for points in stems),
        *(Part(ellipse(x, y, 0.09, 0.05), "leaf") for x, y in leaves),
        Part(body, "fabric", volume=0.75),
        Part(ellipse(0, -0.36, 0.26, 0.05), "accent"),
        Part(ellipse(0, -0.355, 0.2, 0.03), "dark"),
    ]  # fmt: skip


def rug() -> list[Part]:
    """A rug with fringes, seen from its foot."""
    corners = [(-0.7, -0.62), (0.7, -0.62), (0.98, 0.66), (-0.98, 0.66)]
    edge = smooth([(*corner, 1) for corner in corners])
    inner = smooth([(0.88 * x, 0.02 + 0.86 * (y - 0.02), 1) for x, y in corners])
    step = np.linspace(0, 1, 24)
    left, right = ((np.array(corners[i]), np.array(corners[j])) for i, j in ((0, 3), (1, 2)))
    fringe = [(s, a + (b - a) * t) for s, (a, b) in ((-1, left), (1, right)) for t in step]
    return [
        *(Part(line((x, y), (x + s * 0.1, y + 0.01)), "light", 0.018) for s, (x, y) in fringe),
        Part(edge, "accent"),
        Part(inner, "fabric"),
    ]
