"""The prepared catalogue as embedding reads it: texts and photo paths, a few thousand rows at a time."""

import os
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.workspace import fingerprint

TEXT = "text"
NO_FILE = -1
ROWS = 4096


def lists(catalogue: Catalogue, *names: str) -> Iterator[tuple[int, list[list[str | None]]]]:
    """(first row, one list of strings per named column), a few thousand rows at a time."""
    row = 0
    for batch in catalogue.batches(names, ROWS):
        yield row, [batch.column(name).to_pylist() for name in names]
        row += batch.num_rows


def texts_and_photos(catalogue: Catalogue, rows: Iterable[int]) -> dict[int, tuple[str | None, str | None]]:
    """(text, photo path) of a few rows, by row."""
    wanted, found = sorted(set(rows)), {}
    for first, (texts, images) in lists(catalogue, TEXT, columns.IMAGE):
        here = wanted[bisect_left(wanted, first) : bisect_left(wanted, first + len(texts))]
        found.update({row: (texts[row - first], images[row - first]) for row in here})
    return found


@dataclass(frozen=True)
class ContentScan:
    """One look at everything an item's vector may depend on, without opening a photo; 21 bytes per item."""

    lengths: npt.NDArray[np.int32]  # characters of each text, 0 where the encoder gets none
    has_image: npt.NDArray[np.bool_]  # which items name a photo that the encoder would see
    sizes: npt.NDArray[np.int64]  # bytes of each such photo; -1 where there is no such file
    mtimes: npt.NDArray[np.int64]  # in ns
    unseen: int  # how many items name a photo that the encoder cannot see
    identity: str  # equal for two looks exactly if nothing changed between them


def sees(info: EncoderInfo) -> tuple[bool, bool]:
    """Whether the encoder reads texts, and whether it looks at photos."""
    return "text" in info.modalities, "image" in info.modalities


def scan(catalogue: Catalogue, info: EncoderInfo) -> ContentScan:
    """Read the catalogue once and ask the file system about each photo."""
    reads, looks = sees(info)
    count = len(catalogue)
    lengths, has_image = np.zeros(count, np.int32), np.zeros(count, bool)
    sizes, mtimes = np.full(count, NO_FILE, np.int64), np.zeros(count, np.int64)
    row = 0
    for batch in catalogue.batches((TEXT, columns.IMAGE), ROWS):
        here = slice(row, row + batch.num_rows)
        row += batch.num_rows
        if reads:
            lengths[here] = pc.fill_null(pc.utf8_length(batch.column(TEXT)), 0)
        images = batch.column(columns.IMAGE)
        has_image[here] = np.asarray(pc.is_valid(images))
        if looks:
            sizes[here], mtimes[here] = zip(*(stat_image(catalogue.folder, i) for i in images.to_pylist()), strict=True)
    unseen = 0 if looks else int(has_image.sum())
    has_image &= looks
    parts = [catalogue.manifest.fingerprint.encode(), info.fingerprint.encode(), sizes.tobytes(), mtimes.tobytes()]
    return ContentScan(lengths, has_image, sizes, mtimes, unseen, fingerprint.of_bytes(parts))


def stat_image(folder: Path, image: str | None) -> tuple[int, int]:
    """(bytes, modification time in ns) of a photo, (-1, 0) where there is no such file."""
    if image is None:
        return NO_FILE, 0
    try:
        found = os.stat(f"{folder}/{image}")  # noqa: PTH116 (a million paths)
    except (OSError, ValueError):
        return NO_FILE, 0
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (NO_FILE, 0)
