"""Photos that an encoder cannot read, or that tell it nothing or something wrong."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from molar_retrieval.catalog.decoding import MAX_BYTES
from molar_retrieval.quality.duplicates import equal_groups, near_groups, near_photos
from molar_retrieval.quality.findings import Finding, Kind, Severity
from molar_retrieval.quality.items import Items
from molar_retrieval.quality.measure import FORMATS, State
from molar_retrieval.quality.measured import Measured

TINY = 64
"""Pixels of the shorter side below which a photo counts as tiny; encoders look at 224 and more."""
LARGE_PIXELS = 40_000_000
"""Pixels from which a photo counts as needlessly large …"""
LARGE_BYTES = 20 << 20
"""… or bytes."""
ASPECT = 4.0
"""How many times the longer side may be as long as the shorter one."""
BLANK = 3.5
"""Largest steps in brightness (0 … 255) up to which a photo counts as blank; white goods on white have larger ones."""
WRITING = 0.6
"""How much a photo must look like writing to count as nothing else (0 … 1)."""
SHARED = 5
"""So many items with one photo, most of them with titles of their own, share a placeholder."""
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

ABSENT = Kind("photo.absent", Severity.NOTE, "No photo", "add one; until then the item is known by its words alone")
MISSING = Kind(
    "photo.missing",
    Severity.ERROR,
    "The file of the photo is not there",
    "put the file there, correct the path, or leave the field empty",
)
OUTSIDE = Kind(
    "photo.outside",
    Severity.ERROR,
    "Path outside of the catalogue's folder, or a URL",
    "copy the photo into the catalogue's folder and name it by its path there",
)
UNREADABLE = Kind(
    "photo.unreadable", Severity.ERROR, "Not a picture that can be read", "save it anew as JPEG, PNG or WebP"
)
TRUNCATED = Kind("photo.truncated", Severity.ERROR, "The file is cut short or damaged", "transfer the file again")
TOO_LARGE = Kind(
    "photo.too_large", Severity.ERROR, "Larger or longer than photos may be: not read", "reduce it to 2,000 pixels"
)
LARGE = Kind(
    "photo.large",
    Severity.WARNING,
    "Needlessly large",
    "reduce it to 2,000 pixels: no encoder sees more, and reading it takes long",
)
WRONG_EXTENSION = Kind(
    "photo.wrong_extension",
    Severity.WARNING,
    "The name says another format than the file has",
    "rename it, or save it in the format of its name: other programs go by the name",
)
ANIMATED = Kind("photo.animated", Severity.WARNING, "Animated", "save the frame that shows the item: the first is used")
BLANK_PHOTO = Kind("photo.blank", Severity.WARNING, "Blank or nearly uniform", "replace it, or leave the field empty")
TINY_PHOTO = Kind("photo.tiny", Severity.WARNING, "Tiny", "replace it by one of 224 pixels or more")
EXTREME_ASPECT = Kind(
    "photo.extreme_aspect", Severity.WARNING, "Very long or very high", "cut it to the item: the rest is padded"
)
TEXT_ONLY = Kind("photo.text_only", Severity.WARNING, "Writing instead of a picture", "replace it by a photo")
PLACEHOLDER = Kind(
    "photo.placeholder",
    Severity.WARNING,
    "One photo for many items",
    "if it is a placeholder, leave the field empty: it makes these items look alike",
)
DUPLICATE = Kind(
    "photo.duplicate",
    Severity.WARNING,
    "The same file as another item's",
    "if they are one product, merge them or join them as variants; if not, one of the photos is wrong",
)
NEAR_DUPLICATE = Kind(
    "photo.near_duplicate",
    Severity.NOTE,
    "Nearly the same picture as another item's",
    "if they are one product, merge them or join them as variants",
)
KINDS = (
    ABSENT,
    MISSING,
    OUTSIDE,
    UNREADABLE,
    TRUNCATED,
    TOO_LARGE,
    LARGE,
    WRONG_EXTENSION,
    ANIMATED,
    BLANK_PHOTO,
    TINY_PHOTO,
    EXTREME_ASPECT,
    TEXT_ONLY,
    PLACEHOLDER,
    DUPLICATE,
    NEAR_DUPLICATE,
)


def check_photos(items: Items, records: Measured) -> Iterator[Finding]:
    """What is wrong with single photos.

    Args:
        items: Of the catalogue.
        records: Measurements of their photos.
    """
    for row in np.flatnonzero(~items.has_photo & ~items.bad_photo):
        yield items.finding(ABSENT, int(row), "no photo is named", photo=True)
    for row in np.flatnonzero(items.has_photo & _suspicious(items, records)):
        yield from _photo(items, int(row), records[row])


def _suspicious(items: Items, records: Measured) -> npt.NDArray[np.bool_]:
    """Photos with any fault; a million good ones are told at once."""
    long = np.maximum(records["width"], records["height"]).astype(np.int64)
    short = np.maximum(np.minimum(records["width"], records["height"]), 1).astype(np.int64)
    fits = [_fits(str(path), FORMATS[n]) for path, n in zip(items.photos, records["format"].tolist(), strict=True)]
    found: npt.NDArray[np.bool_] = (
        (records["state"] != State.GOOD)
        | (long * short > LARGE_PIXELS)
        | (records["bytes"] > LARGE_BYTES)
        | ~np.array(fits, bool)
        | (records["frames"] > 1)
        | (short < TINY)
        | (long > ASPECT * short)
        | is_blank(records)
        | (records["text"] >= WRITING)
    )
    return found


def _fits(path: str, name: str) -> bool:
    """Whether a file's name ends as those of its format do."""
    ending = path[path.rfind(".") :].lower() if "." in path.rpartition("/")[2] else ""
    return name not in _ENDINGS or ending in _ENDINGS[name]


def _photo(items: Items, row: int, record: Measured) -> Iterator[Finding]:
    path = str(items.photos[row])
    width, height, size = int(record["width"]), int(record["height"]), int(record["bytes"])
    state = State(int(record["state"]))
    shape = f"{width:,} × {height:,} pixels"
    if state is not State.GOOD:
        kind, words = {
            State.MISSING: (MISSING, "there is no such file"),
            State.UNREADABLE: (UNREADABLE, "it is not an image that can be read"),
            State.TRUNCATED: (TRUNCATED, "it ends before the picture does, or is damaged"),
            State.TOO_LARGE: (TOO_LARGE, shape if width else _costly(size)),
        }[state]
        yield items.finding(kind, row, f"{path}: {words}", photo=True)
        return
    long, short = max(width, height), max(1, min(width, height))
    name = FORMATS[int(record["format"])]
    if width * height > LARGE_PIXELS or size > LARGE_BYTES:
        yield items.finding(LARGE, row, f"{path}: {shape}, {size / 1e6:,.1f} MB", size, photo=True)
    if not _fits(path, name):
        yield items.finding(WRONG_EXTENSION, row, f"{path} is {name}", photo=True)
    if record["frames"] > 1 and name != "TIFF":
        yield items.finding(ANIMATED, row, f"{path}: {record['frames']} frames", float(record["frames"]), photo=True)
    if short < TINY:
        yield items.finding(TINY_PHOTO, row, f"{path}: {shape}", TINY / short, photo=True)
    if long > ASPECT * short:
        yield items.finding(EXTREME_ASPECT, row, f"{path}: {shape}", long / short, photo=True)
    if is_blank(record):
        words = f"{path}: {float(record['uniform']):.1%} of it has one colour"
        yield items.finding(BLANK_PHOTO, row, words, float(record["uniform"]), photo=True)
    elif record["text"] >= WRITING:
        yield items.finding(TEXT_ONLY, row, f"{path}: lines of small shapes on a plain ground", photo=True)


def _costly(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size > MAX_BYTES else "it takes too much memory or time to open"


def is_blank(records: Measured) -> npt.NDArray[np.bool_]:
    """Which photos show nothing."""
    blank: npt.NDArray[np.bool_] = records["detail"] <= BLANK
    return blank


def check_shared(items: Items, records: Measured, looks: npt.NDArray[np.float32] | None) -> Iterator[Finding]:
    """Photos that several items have.

    Args:
        items: Of the catalogue.
        records: Measurements of their photos.
        looks: What each photo looks like to an encoder, unit rows of shape (n_items, dim), or None.
    """
    good = items.has_photo & (records["state"] == State.GOOD)
    hashes = np.where(good[:, None], records["hash"], 0)
    blank, alone = is_blank(records), records["text"] < WRITING
    for rows in equal_groups(hashes):
        alone[rows[1:]] = False  # one of a group stands for it among the near duplicates
        if _is_placeholder(items, rows):
            words = f"{items.photos[int(rows[0])]}: the photo of {len(rows):,} items"
            yield from _shared(items, PLACEHOLDER, rows, words, float(len(rows)))
        elif not blank[rows[0]]:
            yield from _shared(items, DUPLICATE, rows, f"the photo of {len(rows):,} items", float(len(rows)))
    yield from _near(items, records, np.flatnonzero(good & ~blank & alone), looks)


def placeholders(items: Items, records: Measured) -> npt.NDArray[np.bool_]:
    """Which items have a photo that many items with other titles have."""
    found = np.zeros(len(items), bool)
    for rows in equal_groups(
        np.where((items.has_photo & (records["state"] == State.GOOD))[:, None], records["hash"], 0)
    ):
        found[rows] = _is_placeholder(items, rows)
    return found


def _is_placeholder(items: Items, rows: npt.NDArray[np.int64]) -> bool:
    return len(rows) >= SHARED and len(np.unique(items.titles[rows])) >= _OWN_TITLES * len(rows)


def _near(
    items: Items, records: Measured, rows: npt.NDArray[np.int64], looks: npt.NDArray[np.float32] | None
) -> Iterator[Finding]:
    left, right, bits = near_photos(
        records["bits"][rows], records["colours"][rows], None if looks is None else looks[rows]
    )
    closest = np.full(len(rows), 256, np.int64)
    np.minimum.at(closest, left, bits)
    np.minimum.at(closest, right, bits)
    for group in near_groups(left, right, len(rows)):
        for place in group:
            others = _named(items, rows[group], int(rows[place]))
            amount = 1 - closest[place] / 256
            detail = f"{items.photos[int(rows[place])]}: {closest[place]} of 256 bits differ from the nearest"
            yield items.finding(NEAR_DUPLICATE, int(rows[place]), detail, float(amount), others=others, photo=True)


def _shared(items: Items, kind: Kind, rows: npt.NDArray[np.int64], words: str, amount: float) -> Iterator[Finding]:
    for row in rows:
        yield items.finding(kind, int(row), words, amount, others=_named(items, rows, int(row)), photo=True)


def _named(items: Items, rows: npt.NDArray[np.int64], own: int) -> tuple[str, ...]:
    """Some other items of a group."""
    return tuple(items.id(int(row)) for row in rows[: _NAMED + 1] if row != own)[:_NAMED]


def megapixels(records: Measured) -> Sequence[float]:
    """Size of each photo that can be read."""
    good = records[records["state"] == State.GOOD]
    sizes: list[float] = (good["width"].astype(np.float64) * good["height"] / 1e6).tolist()
    return sizes
