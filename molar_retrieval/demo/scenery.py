"""What surrounds a thing in a photo: wall, floor, clutter and light."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from molar_retrieval.demo.pixels import SIZE, Pixels, X, Y

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
        floor = _FLOORS[rng.integers(len(_FLOORS))]
        pen.rectangle((0, horizon, SIZE, SIZE), fill=floor)
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
