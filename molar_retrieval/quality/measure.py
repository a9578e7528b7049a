"""What one photo looks like, in a few numbers: read once, kept under the hash of its bytes.

Everything that the check of photos decides by is in these numbers, so that a second look at a catalogue decodes no
photo again, and the limits can change without one being opened.
"""

import io
import warnings
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps

from molar_retrieval.catalog.images import MAX_PIXELS

RULES = 1
"""Number of the rules by which photos are measured; a change of them makes kept measurements stale."""
BITS = 256
"""Length of a perceptual hash."""
CROPS = (0.0, 0.02, 0.04, 0.06)
"""What is cut off at each side before a photo is hashed: one cut closer equals another one's middle."""
GRID = 4
"""A photo's colours are kept as the means of a grid of 4 by 4 fields."""

MEASURED: np.dtype[Any] = np.dtype(
    [
        ("hash", "<u8", (2,)),
        ("state", "u1"),
        ("format", "u1"),
        ("frames", "<u2"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("bytes", "<i8"),
        ("spread", "<f4"),
        ("uniform", "<f4"),
        ("text", "<f4"),
        ("bits", "u1", (len(CROPS), BITS // 8)),
        ("colours", "u1", (GRID * GRID * 3,)),
    ]
)
"""What is kept of a photo.

``hash`` of its bytes; ``state`` (:class:`State`); ``format`` as a place in :data:`FORMATS`; number of ``frames``;
``width`` and ``height`` in pixels, as stored; size in ``bytes``; ``spread``: standard deviation of its brightness
(0 … 128); ``uniform``: share of its area that has one colour; ``text``: how much it looks like nothing but writing
(0 … 1); ``bits``: perceptual hash of it and of its middles; ``colours``: of its fields, red, green and blue.
"""

FORMATS = ("", "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""Names that Pillow gives to formats; the first one stands for any other."""

_SIDE = 192  # of the copy that is measured
_HASH_SIDE = 64
_LOW = 16  # frequencies of the perceptual hash in each direction
_SAME = 12  # levels by which one colour may differ from itself


class State(IntEnum):
    """How far a photo can be read."""

    GOOD = 0
    MISSING = 1
    UNREADABLE = 2
    TRUNCATED = 3
    TOO_LARGE = 4


def measure(data: bytes) -> npt.NDArray[Any]:
    """Measure a photo.

    Args:
        data: The bytes of the file.

    Returns:
        A record of :data:`MEASURED` (shape ()), without the hash.
    """
    record = np.zeros((), MEASURED)
    record["bytes"] = len(data)
    try:
        Image.init()
        formats = [name for name in FORMATS[1:] if name in Image.OPEN]
        with warnings.catch_warnings():  # Pillow warns from 89 megapixels on; the limit here is checked below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError:
        record["state"] = State.TOO_LARGE
        return record
    except Exception:  # Pillow's parsers raise whatever they stumble over
        record["state"] = State.UNREADABLE
        return record
    with opened as image:
        record["width"], record["height"] = image.size
        record["format"] = FORMATS.index(image.format) if image.format in FORMATS else 0
        if image.width * image.height > MAX_PIXELS:
            record["state"] = State.TOO_LARGE
            return record
        try:
            record["frames"] = 1 if image.format == "MPO" else min(getattr(image, "n_frames", 1), 65_535)
            small = _small(image)
        except Exception:  # as above
            record["state"] = State.TRUNCATED
            return record
    _describe(record, small)
    return record


def _small(image: Image.Image) -> Image.Image:
    """An upright copy of at most 192 pixels, RGB on white; the whole file is decoded.

    Raises:
        OSError: If the file ends before the picture does.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # somebody else's choice must not hide a damaged file
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    image.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # a large JPEG is decoded at a fraction of its size
    image.load()
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits a channel
        upright = upright.convert("I").point(lambda value: value / 256).convert("L")
    if upright.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright.convert("RGB")


def _describe(record: npt.NDArray[Any], image: Image.Image) -> None:
    pixels = np.asarray(image, np.float32)
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    record["spread"] = grey.std()
    # The most frequent of 4,096 colours, and how much lies near it.
    coarse = (np.asarray(image) >> 4).astype(np.int32) @ np.array([256, 16, 1], np.int32)
    common = np.bincount(coarse.ravel(), minlength=4096).argmax()
    ground = pixels[coarse == common].mean(axis=0)
    away = np.abs(pixels - ground).max(axis=2)
    record["uniform"] = (away <= _SAME).mean()
    record["text"] = writing(away)
    record["bits"] = perceptual_bits(image)
    record["colours"] = np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX), np.uint8).ravel()


def perceptual_bits(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Perceptual hashes of a picture and of its middles: signs of low frequencies, packed, shape (4, 32).

    The discrete cosine transform of 64 × 64 grey values, the lowest 16 × 16 frequencies but the constant one (Zauner
    2010, "Implementation and benchmarking of perceptual image hash functions"); a sign survives other brightness,
    contrast, size and compression.
    """
    width, height = image.size
    grey, basis = image.convert("L"), _cosines()
    out = np.zeros((len(CROPS), BITS), bool)
    for place, cut in enumerate(CROPS):
        box = (width * cut, height * cut, width * (1 - cut), height * (1 - cut))
        small = grey.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX, box=box)
        out[place, 1:] = (basis @ np.asarray(small, np.float32) @ basis.T).ravel()[1:] > 0
    return np.packbits(out, axis=1)


@lru_cache(maxsize=1)
def _cosines() -> npt.NDArray[np.float32]:
    """The first rows of the discrete cosine transform, shape (16, 64)."""
    places = (2 * np.arange(_HASH_SIDE) + 1) * np.pi / (2 * _HASH_SIDE)
    return np.cos(np.arange(_LOW)[:, None] * places).astype(np.float32)


def writing(away: npt.NDArray[np.float32]) -> float:
    """How much a picture looks like nothing but writing on a plain ground, 0 … 1.

    Writing is many small pieces of ink of about one height that stand in lines, and nothing large beside them.

    Args:
        away: How far each pixel is from the ground's colour, shape (height, width), 0 … 255.
    """
    from scipy import ndimage

    ink = away > 60
    share = float(ink.mean())
    if not 0.005 < share < 0.35 or float((away <= 30).mean()) < 0.6:
        return 0.0
    labels, n = ndimage.label(ink, np.ones((3, 3), bool))
    boxes = ndimage.find_objects(labels)
    sizes = np.bincount(labels.ravel())[1:]
    heights = np.array([box[0].stop - box[0].start for box in boxes])
    widths = np.array([box[1].stop - box[1].start for box in boxes])
    pieces = heights >= 3
    if n < 6 or pieces.sum() < 6:
        return 0.0
    height, width = away.shape
    small = pieces & (heights <= 0.25 * height) & (widths <= 0.4 * width)
    if not small.any():
        return 0.0
    ink_in_small = float(sizes[small].sum() / sizes.sum())
    typical = float(np.median(heights[small]))
    even = float((np.abs(heights[small] - typical) <= max(2.0, 0.5 * typical)).mean())
    bottoms = np.array([box[0].stop for box in boxes])[small]
    lined = float((np.abs(bottoms[:, None] - bottoms[None]) <= max(1.5, 0.25 * typical)).sum(axis=1).mean() - 1)
    in_lines = min(1.0, lined / 4)
    return ink_in_small * even * in_lines
