"""Draws the demo shop's photos: a thing with its colour and pattern, before a wall, in some light.

Vectors depend on every pixel. Curves and pieces come from ``silhouettes.toml``; coordinates run from -1 to 1, x to the
right and y downwards, and a photo turns, scales and colours them.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from molar_retrieval.data.demo.vocabulary import COLOURS, KIND_BY_NAME, WORDS, Pattern, packaged

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


_FINE = 2  # masks are drawn this many times larger, for smooth edges

_PAINTS: dict[str, Pixels] = {name: np.array(rgb, dtype=np.float32) for name, rgb in WORDS["paints"].items()}
_ROWS = tomllib.loads(packaged("silhouettes.toml"))
SILHOUETTES = {kind: [piece for row in rows for piece in _pieces(row)] for kind, rows in _ROWS.items()}
"""The pieces of each kind of thing, from back to front."""


def draw(kind: str, colour: str, pattern: Pattern, rng: np.random.Generator) -> Image.Image:
    """One photo, RGB, ``SIZE`` pixels square; pose, surroundings and light are drawn at random."""
    canvas = surroundings(KIND_BY_NAME[kind].department, rng)
    pieces = _posed(SILHOUETTES[kind], rng)
    stencils = [_stencil(piece) for piece in pieces]
    _cast_shadow(canvas, stencils, rng)
    main = _dyed(colour, rng)
    cloth = fabric(pattern, main, rng)
    fills = {**_PAINTS, "shade": (main * 0.5).astype(np.float32), "accent": _accent(main, rng)}
    folds = _folds(rng)
    for piece, (window, coverage) in zip(pieces, stencils, strict=True):
        area = canvas[window]
        fill = cloth[window] if piece.paint == "fabric" else fills[piece.paint]
        if not piece.width:
            fill = fill * _shading(piece, folds)[window]
        area += (fill - area) * coverage[..., None]
    return develop(canvas, rng)


_Stencil = tuple[tuple[slice, slice], Pixels]


def _stencil(piece: Piece) -> _Stencil:
    """What a piece covers: a window of the picture, and the coverage, 0 to 1, of each pixel in it."""
    pixels = (piece.points + 1) * (SIZE / 2)
    reach = piece.width * SIZE / 4 + 1
    left, top = (int(v) for v in np.clip(np.floor(pixels.min(0) - reach), 0, SIZE - 1))
    right, bottom = (int(v) for v in np.clip(np.ceil(pixels.max(0) + reach), 1, SIZE))
    image = Image.new("L", ((right - left) * _FINE, (bottom - top) * _FINE))
    pen = ImageDraw.Draw(image)
    points = [(float(x), float(y)) for x, y in (pixels - (left, top)) * _FINE]
    if piece.width:
        width = max(1, round(piece.width * SIZE * _FINE / 2))
        pen.line(points, fill=255, width=width, joint="curve")
        radius = width / 2 - 0.5
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    else:
        pen.polygon(points, fill=255)
    coverage = np.asarray(image.reduce(_FINE), dtype=np.float32) / np.float32(255)
    return (slice(top, bottom), slice(left, right)), coverage


def _posed(pieces: list[Piece], rng: np.random.Generator) -> list[Piece]:
    """The pieces turned by a few degrees, scaled, moved and sometimes mirrored."""
    angle = np.radians(rng.normal(0, 5))
    scale = rng.uniform(0.74, 0.86)
    flip = np.array((rng.choice((-1.0, 1.0)), 1.0))
    turn = np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))
    shift = rng.uniform(-0.06, 0.06, 2)
    placed = ((piece, (piece.points * flip) @ turn * scale + shift) for piece in pieces)
    return [Piece(points, piece.paint, piece.width * scale, piece.volume) for piece, points in placed]


def _cast_shadow(canvas: Pixels, stencils: list[_Stencil], rng: np.random.Generator) -> None:
    whole = np.zeros((SIZE, SIZE), dtype=np.float32)
    for window, coverage in stencils:
        whole[window] = np.maximum(whole[window], coverage)
    image = Image.fromarray((whole * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(7))
    dx, dy = int(rng.integers(-8, 9)), int(rng.integers(4, 10))
    shadow = np.roll(np.asarray(image, dtype=np.float32) / 255, (dy, dx), (0, 1))
    canvas *= 1 - 0.38 * shadow[..., None]


def _dyed(colour: str, rng: np.random.Generator) -> Pixels:
    """A colour as it comes out of one vat: a little lighter, darker or off."""
    rgb = np.array(COLOURS[colour]) * rng.uniform(0.9, 1.1) + rng.normal(0, 5, 3)
    return np.clip(rgb, 0, 255).astype(np.float32)


def _accent(main: Pixels, rng: np.random.Generator) -> Pixels:
    """The colour of collars, straps and edges: lighter or darker than the main one."""
    accent = main * 0.62 if rng.random() < 0.6 else main * 0.35 + CREAM * 0.65
    return accent.astype(np.float32)


def _folds(rng: np.random.Generator) -> Pixels:
    """Soft waves of light, as cloth and glaze have them, around 1."""
    waves = np.zeros((SIZE, SIZE), dtype=np.float32)
    for kx, ky, phase in zip(rng.uniform(-7, 7, 3), rng.uniform(-5, 5, 3), rng.uniform(0, 6, 3), strict=True):
        waves += np.sin(np.float32(kx) * X + np.float32(ky) * Y + np.float32(phase))
    return (1 + 0.022 * waves).astype(np.float32)


def _shading(piece: Piece, folds: Pixels) -> Pixels:
    """Brightness of a piece, shape (SIZE, SIZE, 1): darker where a round thing turns away from the light."""
    left, right = float(piece.points[:, 0].min()), float(piece.points[:, 0].max())
    across = np.clip((X[:1] - left) / max(right - left, 1e-6), 0, 1)
    turned = 1 - piece.volume * (1.45 * (across - 0.38) ** 2)
    shade: Pixels = (folds * turned)[..., None].astype(np.float32)
    return shade
