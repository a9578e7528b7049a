"""The picture plane, and what fills it: wall, floor, clutter and light, and the patterns of cloth and glaze."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from molar_retrieval.demo.vocabulary import Pattern

SIZE = 224  # width and height of a photo

Pixels = npt.NDArray[np.float32]


_AXIS = (np.arange(SIZE, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / SIZE) - np.float32(1)
X, Y = np.meshgrid(_AXIS, _AXIS)  # coordinates of each pixel, from -1 to 1; shape (SIZE, SIZE) each

CREAM: Pixels = np.array((250, 245, 234), dtype=np.float32)
_WALLS = ((236, 231, 222), (222, 229, 233), (233, 226, 230), (226, 231, 222), (240, 236, 230), (214, 218, 224))
_FLOORS = ((196, 172, 142), (206, 198, 188), (178, 182, 186), (222, 210, 194), (168, 148, 128))
_CLUTTER = ((150, 158, 150), (184, 166, 148), (132, 142, 158), (198, 184, 176), (120, 138, 120), (176, 160, 170))


def surroundings(department: str, rng: np.random.Generator) -> Pixels:
    """A wall, for things for the home also a table or a floor, and blurred clutter."""
    wall = np.array(_WALLS[rng.integers(len(_WALLS))], dtype=np.float32)
    canvas = np.broadcast_to(wall, (SIZE, SIZE, 3)) * (1.0 - 0.1 * Y[..., None])
    back = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(back)
    if department == "Home" or rng.random() < 0.3:
        horizon = SIZE * rng.uniform(0.66, 0.8)
        pen.rectangle((0, horizon, SIZE, SIZE), fill=_FLOORS[rng.integers(len(_FLOORS))])
    for _ in range(rng.integers(1, 5)):
        _clutter(pen, rng)
    return np.array(back.filter(ImageFilter.GaussianBlur(rng.uniform(2.5, 5))), dtype=np.float32)


def _clutter(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Something that happens to stand or hang near the edge: a frame, a ball, a book, a twig."""
    colour = _CLUTTER[rng.integers(len(_CLUTTER))]
    x = float(rng.choice((rng.uniform(0, 0.2), rng.uniform(0.8, 1)))) * SIZE
    y = float(rng.uniform(0.05, 0.95)) * SIZE
    width, height = (float(v) for v in rng.uniform(12, 34, 2))
    shape = ("frame", "ball", "book", "twig")[rng.integers(4)]
    if shape == "frame":
        pen.rectangle((x - width, y - height, x + width, y + height), outline=colour, width=5)
    elif shape == "ball":
        pen.ellipse((x - width, y - width, x + width, y + width), fill=colour)
    elif shape == "book":
        pen.rectangle((x - width, y - 7, x + width, y + 7), fill=colour)
    else:
        for lean in rng.uniform(-1, 1, 5):
            pen.line((x, y, x + float(lean) * width, y - height * 1.5), fill=colour, width=4)


def develop(canvas: Pixels, rng: np.random.Generator) -> Image.Image:
    """Light from one side, a warm or cool cast, and a little grain."""
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0.02, 0.12) * (np.float32(np.cos(angle)) * X + np.float32(np.sin(angle)) * Y)
    cast = 1 + rng.uniform(-0.035, 0.035) * np.array((1, 0, -1), dtype=np.float32)
    exposure = rng.uniform(0.94, 1.06)
    grain = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * 1.5
    pixels = canvas * (light[..., None] * cast * exposure).astype(np.float32) + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


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
