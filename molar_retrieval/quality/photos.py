"""Photos that an encoder cannot read, or that tell it nothing or something wrong."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from molar_retrieval.catalog.decoding import MAX_BYTES
from molar_retrieval.quality.duplicates import Rows, equal_groups, near_groups, near_photos
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.items import Items
from molar_retrieval.quality.measure import FORMATS, Measured, PhotoState

TINY = 64  # Pixels of the shorter side below which a photo counts as tiny; encoders look at 224 and more
LARGE_PIXELS = 40_000_000  # Pixels from which a photo counts as needlessly large …
LARGE_BYTES = 20 << 20  # … or bytes
ASPECT = 4.0  # How many times the longer side may be as long as the shorter one
BLANK = 3.5  # Largest steps in brightness (0 … 255) of a blank photo; white goods on white have larger ones
WRITING = 0.6  # How much a photo must look like writing to count as nothing else (0 … 1)
SHARED = 5  # So many items with one photo, most of them with titles of their own, share a placeholder
_OWN_TITLES = 0.5
_NAMED = 12  # items that a finding names beside its own

_ENDINGS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif", ".avifs"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
}

Mask = npt.NDArray[np.bool_]


def check_photos(items: Items, records: Measured) -> Iterator[Finding]:
    """What is wrong with single photos, by their measurements."""
    for row in np.flatnonzero(~items.has_photo & ~items.bad_photo).tolist():
        yield items.finding("photo.absent", row, "no photo is named", photo=True)
    for kind, faulty, amount, detail in _faults(items, records):
        for row in np.flatnonzero(items.has_photo & faulty).tolist():
            yield items.finding(kind, row, f"{items.photos[row]}: {detail(row)}", float(amount[row]), photo=True)


def _faults(
    items: Items, records: Measured
) -> Iterator[tuple[str, Mask, npt.NDArray[np.floating], Callable[[int], str]]]:
    """Each fault: which photos have it, how bad it is, and what is seen of it."""
    state, size, frames, uniform = (records[name] for name in ("state", "bytes", "frames", "uniform"))
    width, height = records["width"].astype(np.int64), records["height"].astype(np.int64)
    long, short = np.maximum(width, height), np.maximum(np.minimum(width, height), 1)
    names = [FORMATS[number] for number in records["format"].tolist()]
    fits = np.array([_fits(path, name) for path, name in zip(items.photos, names, strict=True)], bool)
    good, blank, none = state == PhotoState.GOOD, is_blank(records), np.zeros(len(records))

    def shape(row: int) -> str:
        return f"{width[row]:,} × {height[row]:,} pixels"

    def too_large(row: int) -> str:
        if width[row]:
            return shape(row)
        return f"{size[row] / 1e6:,.0f} MB" if size[row] > MAX_BYTES else "it takes too much memory or time to open"

    yield "photo.missing", state == PhotoState.MISSING, none, lambda row: "there is no such file"
    yield "photo.unreadable", state == PhotoState.UNREADABLE, none, lambda row: "it is not an image that can be read"
    cut = "it ends before the picture does, or is damaged"
    yield "photo.truncated", state == PhotoState.TRUNCATED, none, lambda row: cut
    yield "photo.too_large", state == PhotoState.TOO_LARGE, none, too_large
    large = good & ((width * height > LARGE_PIXELS) | (size > LARGE_BYTES))
    yield "photo.large", large, size, lambda row: f"{shape(row)}, {size[row] / 1e6:,.1f} MB"
    yield "photo.wrong_extension", good & ~fits, none, lambda row: f"it is {names[row]}"
    animated = good & (frames > 1) & (np.array(names) != "TIFF")
    yield "photo.animated", animated, frames, lambda row: f"{frames[row]} frames"
    yield "photo.tiny", good & (short < TINY), TINY / short, shape
    yield "photo.extreme_aspect", good & (long > ASPECT * short), long / short, shape
    yield "photo.blank", good & blank, uniform, lambda row: f"{float(uniform[row]):.1%} of it has one colour"
    writing = good & ~blank & (records["text"] >= WRITING)
    yield "photo.text_only", writing, none, lambda row: "lines of small shapes on a plain ground"


def _fits(path: str | None, name: str) -> bool:
    last = (path or "").rpartition("/")[2]
    ending = last[last.rfind(".") :].lower() if "." in last else ""
    return name not in _ENDINGS or ending in _ENDINGS[name]


def is_blank(records: Measured) -> Mask:
    """Which photos show nothing."""
    return np.asarray(records["detail"] <= BLANK)


def usable_photos(items: Items, records: Measured) -> Mask:
    """Which items have a photo of their own that shows something: not blank, no placeholder, not only writing."""
    good = readable(items, records) & ~is_blank(records) & (records["text"] < WRITING)
    for rows in _groups(items, records):
        good[rows] &= not _is_placeholder(items, rows)
    return good


def check_shared(items: Items, records: Measured, features: npt.NDArray[np.float32] | None) -> Iterator[Finding]:
    """Photos that several items have; ``features``: unit rows by an encoder, shape (n_items, dim), or None."""
    blank, alone = is_blank(records), records["text"] < WRITING
    for rows in _groups(items, records):
        alone[rows[1:]] = False  # one of a group stands for it among the near duplicates
        words, kind = f"the photo of {len(rows):,} items", "photo.duplicate"
        if _is_placeholder(items, rows):
            words, kind = f"{items.photos[int(rows[0])]}: {words}", "photo.placeholder"
        elif blank[rows[0]]:
            continue
        for row in rows.tolist():
            others = _named(items, rows, row)
            yield items.finding(kind, row, words, float(len(rows)), others=others, photo=True)
    yield from _near(items, records, np.flatnonzero(readable(items, records) & ~blank & alone), features)


def readable(items: Items, records: Measured) -> Mask:
    """Which items have a photo that can be read."""
    return np.asarray(items.has_photo & (records["state"] == PhotoState.GOOD))


def _groups(items: Items, records: Measured) -> list[Rows]:
    """Rows of items that have the same photo, byte for byte."""
    return equal_groups(np.where(readable(items, records)[:, None], records["hash"], 0))


def _is_placeholder(items: Items, rows: Rows) -> bool:
    """Whether a photo belongs to many items with other titles."""
    return len(rows) >= SHARED and len(np.unique(items.titles[rows])) >= _OWN_TITLES * len(rows)


def _near(items: Items, records: Measured, rows: Rows, features: npt.NDArray[np.float32] | None) -> Iterator[Finding]:
    seen = None if features is None else features[rows]
    left, right, bits = near_photos(records["bits"][rows], records["colours"][rows], seen)
    closest = np.full(len(rows), 256, np.int64)
    np.minimum.at(closest, left, bits)
    np.minimum.at(closest, right, bits)
    for group in near_groups(left, right, len(rows)):
        for place in group:
            row, apart = int(rows[place]), int(closest[place])
            detail = f"{items.photos[row]}: {apart} of 256 bits differ from the nearest"
            others = _named(items, rows[group], row)
            yield items.finding("photo.near_duplicate", row, detail, 1 - apart / 256, others=others, photo=True)


def _named(items: Items, rows: Rows, own: int) -> tuple[str, ...]:
    return tuple(items.ids.id(int(row)) for row in rows[: _NAMED + 1] if row != own)[:_NAMED]
