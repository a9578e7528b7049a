"""What one photo looks like, in a few numbers: read once, kept under the hash of its bytes.

The check of photos decides by these alone: a second look decodes no photo again, and limits can change.
"""

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from molar_retrieval.catalog import decoding
from molar_retrieval.catalog.decoders import looked_at

RULES = 2  # Number of the rules by which photos are measured; a change of them makes kept measurements stale
BITS = 256  # Length of a perceptual hash
CROPS = (0.0, 0.02, 0.04, 0.06)  # Cut off at each side before hashing: one cut closer equals another one's middle
GRID = 4  # A photo's colours are kept as the means of a grid of 4 by 4 fields

MEASURED: np.dtype[Any] = np.dtype(
    [
        ("hash", "<u8", (2,)),
        ("state", "u1"),
        ("format", "u1"),
        ("frames", "<u2"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("bytes", "<i8"),
        ("detail", "<f4"),
        ("uniform", "<f4"),
        ("text", "<f4"),
        ("bits", "u1", (len(CROPS), BITS // 8)),
        ("colours", "u1", (GRID * GRID * 3,)),
    ]
)
"""What is kept of a photo.

``hash`` of its bytes; ``state`` (:class:`PhotoState`); ``format`` as a place in :data:`FORMATS`; number of ``frames``;
``width`` and ``height`` in pixels, as stored; size in ``bytes``; ``detail``: how large steps in brightness it has
(0 … 255); ``uniform``: share of its area that has one colour; ``text``: how much it looks like nothing but writing
(0 … 1); ``bits``: perceptual hash of it and of its middles; ``colours``: of its fields, red, green and blue.
"""

Measured = npt.NDArray[Any]  # Records of :data:`MEASURED`
FORMATS = ("", *decoding.FORMATS)  # Names that Pillow gives to formats; the first one stands for any other

_GRAIN, _HASHED = 48, 64  # sides of what steps and hashes are seen in
_PLAIN, _GLYPHS = 0.985, 12  # share of the ground that has its colour, and pieces, that writing has at least
_SAME = 12  # levels by which one colour may differ from itself


class PhotoState(IntEnum):
    """How far a photo can be read."""

    GOOD = 0
    MISSING = 1
    UNREADABLE = 2
    TRUNCATED = 3
    TOO_LARGE = 4


def measure(data: bytes) -> npt.NDArray[Any]:
    """Measure the bytes of a photo: a record of :data:`MEASURED` (shape ()), without the hash."""
    record = np.zeros((), MEASURED)
    facts, small = looked_at(data)
    record["bytes"], record["state"] = len(data), PhotoState[facts["state"]]
    record["width"], record["height"], record["frames"] = facts["width"], facts["height"], facts["frames"]
    record["format"] = FORMATS.index(facts["format"])
    if small is not None:
        _describe(record, small)
    return record


def _describe(record: npt.NDArray[Any], image: Image.Image) -> None:
    pixels = np.asarray(image, np.float32)
    record["detail"] = _detail(image)
    # The most frequent of 4,096 colours, and how much lies near it.
    coarse = (np.asarray(image) >> 4).astype(np.int32) @ np.array([256, 16, 1], np.int32)
    common = np.bincount(coarse.ravel(), minlength=4096).argmax()
    ground = pixels[coarse == common].mean(axis=0)
    away = np.abs(pixels - ground).max(axis=2)
    record["uniform"] = (away <= _SAME).mean()
    record["text"] = writing(away)
    record["bits"] = perceptual_bits(image)
    record["colours"] = np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX), np.uint8).ravel()


def _detail(image: Image.Image) -> float:
    """The 99th percentile of the steps between the fields of a 48 × 48 grid: noise and vignettes have no large ones."""
    grey = np.asarray(image.convert("L").resize((_GRAIN, _GRAIN), Image.Resampling.BOX), np.float32)
    across, down = np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]
    return float(np.percentile(np.maximum(across, down), 99))


def perceptual_bits(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Perceptual hashes of a picture and of its middles: low frequencies against their median, packed, shape (4, 32).

    The pHash of imagehash: the lowest 16 × 16 frequencies of 64 × 64 grey values; they survive other brightness,
    contrast, size and compression.
    """
    from imagehash import phash

    (width, height), grey = image.size, image.convert("L")
    boxes = [(width * cut, height * cut, width * (1 - cut), height * (1 - cut)) for cut in CROPS]
    small = [grey.resize((_HASHED, _HASHED), Image.Resampling.LANCZOS, box=box) for box in boxes]
    return np.packbits([phash(middle, 16, _HASHED // 16).hash.ravel() for middle in small], axis=1)


def writing(away: npt.NDArray[np.float32]) -> float:
    """How much a picture looks like nothing but writing on a plain ground, 0 … 1.

    Writing is many small pieces of ink of about one height, close beside each other in lines, and nothing else: around
    it the ground is plain. A dozen earrings stand farther apart, and around the print of a shirt there is the shirt.
    ``away``: how far each pixel is from the ground's colour, shape (height, width), 0 … 255.
    """
    from scipy import ndimage

    ink = away > 60
    if not 0.005 < float(ink.mean()) < 0.35:
        return 0.0
    ground = away[~ndimage.binary_dilation(ink, iterations=3)]
    if not len(ground) or float((ground <= _SAME + 2).mean()) < _PLAIN:
        return 0.0
    labels, _ = ndimage.label(ink, np.ones((3, 3), bool))
    boxes = np.array([[b[0].start, b[0].stop, b[1].start, b[1].stop] for b in ndimage.find_objects(labels)])
    heights, widths = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    small = (heights >= 3) & (heights <= 0.25 * away.shape[0]) & (widths <= 0.4 * away.shape[1])
    if small.sum() < _GLYPHS:
        return 0.0
    sizes = np.bincount(labels.ravel())[1:]
    typical = float(np.median(heights[small]))
    even = float((np.abs(heights[small] - typical) <= max(2.0, 0.5 * typical)).mean())
    beside, close = _in_lines(boxes[small], 0.4 * typical)
    return float(sizes[small].sum() / sizes.sum()) * even * min(1.0, beside / 0.8) * min(1.0, close / 0.7) ** 4


def _in_lines(boxes: npt.NDArray[np.int64], gap: float) -> tuple[float, float]:
    """The share of the pieces that have another one to their right, and of those the share that have it near."""
    top, bottom, left, right = boxes.T
    height = bottom - top
    # Row i, column j: piece j begins to the right of piece i, at about its height.
    same = (top[None] < (top + 0.7 * height)[:, None]) & (bottom[None] > (top + 0.3 * height)[:, None])
    same &= left[None] > left[:, None]
    apart = np.where(same, np.maximum(left[None] - right[:, None], 0), np.inf).min(axis=1)
    found = np.isfinite(apart)
    return float(found.mean()), float((apart[found] <= gap).mean()) if found.any() else 0.0
