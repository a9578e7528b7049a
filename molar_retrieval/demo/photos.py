"""Draws the demo shop's photos: a thing with its colour and pattern, before a wall, in some light."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from molar_retrieval.demo.scenery import CREAM, SIZE, Pixels, X, Y, develop, fabric, surroundings
from molar_retrieval.demo.silhouettes import Piece, read_silhouettes
from molar_retrieval.demo.vocabulary import COLOURS, KIND_BY_NAME, WORDS, Pattern

_FINE = 2  # masks are drawn this many times larger, for smooth edges

_PAINTS: dict[str, Pixels] = {name: np.array(rgb, dtype=np.float32) for name, rgb in WORDS["paints"].items()}
SILHOUETTES = read_silhouettes()  # the pieces of each kind of thing, from back to front


@dataclass(frozen=True)
class Appearance:
    """What a photo shows."""

    kind: str
    colour: str
    pattern: Pattern


def draw(look: Appearance, rng: np.random.Generator) -> Image.Image:
    """One photo, RGB, ``SIZE`` pixels square; pose, surroundings and light are drawn at random."""
    canvas = surroundings(KIND_BY_NAME[look.kind].department, rng)
    pieces = _posed(SILHOUETTES[look.kind], rng)
    stencils = [_stencil(piece) for piece in pieces]
    _cast_shadow(canvas, stencils, rng)
    main = _dyed(look.colour, rng)
    cloth = fabric(look.pattern, main, rng)
    fills = {**_PAINTS, "shade": (main * 0.5).astype(np.float32), "accent": _accent(main, rng)}
    folds = _folds(rng)
    for piece, (window, coverage) in zip(pieces, stencils, strict=True):
        area = canvas[window]
        fill = cloth[window] if piece.paint == "fabric" else fills[piece.paint]
        if not piece.width:
            fill = fill * _shading(piece, folds)[window]
        area += (fill - area) * coverage[..., None]
    return develop(canvas, rng)


class _Stencil(NamedTuple):
    """What a piece covers: the coverage, 0 to 1, of each pixel in a window of the picture."""

    window: tuple[slice, slice]
    coverage: Pixels


def _stencil(piece: Piece) -> _Stencil:
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
    return _Stencil((slice(top, bottom), slice(left, right)), coverage)


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
    for stencil in stencils:
        area = whole[stencil.window]
        np.maximum(area, stencil.coverage, out=area)
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
