"""Reads ahead: texts and decoded photos of the next batches are ready before the encoder asks for them."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from molar_retrieval.catalog.images import ImageError, open_image
from molar_retrieval.embedding.plan import Texts
from molar_retrieval.embedding.records import NO_HASH, RECORD, Status, hashes, image_stamp, item_key
from molar_retrieval.embedding.resolve import hash_image
from molar_retrieval.embedding.rowfile import Rows
from molar_retrieval.embedding.source import stat_image
from molar_retrieval.encoders.base import EncoderInput

_AHEAD = 3  # batches
_AHEAD_BYTES = 256 << 20  # of decoded photos
_ATTEMPTS = 3


@dataclass
class Batch:
    """What the encoder gets for some rows, and what is to be remembered of them.

    Attributes:
        rows: In catalogue order.
        inputs: One per row.
        records: One per row, without checksum.
        reasons: Why a row's photo was left out, by row.
        seconds: Time spent on reading it, summed over threads.
    """

    rows: Rows
    inputs: list[EncoderInput]
    records: npt.NDArray[Any]
    reasons: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def image_bytes(self) -> int:
        """Memory of the decoded photos."""
        return sum(3 * item.image.width * item.image.height for item in self.inputs if item.image is not None)


@dataclass(frozen=True)
class Photo:
    """A photo as it was when it was read.

    Attributes:
        image: Decoded, or None.
        reason: Why it could not be decoded, or None.
        image_hash: Of its bytes.
        size: In bytes, -1 where there is no file.
        mtime: In ns.
        seconds: Time spent on it.
    """

    image: Image.Image | None
    reason: str | None
    image_hash: bytes
    size: int
    mtime: int
    seconds: float


class Reader:
    """Loads batches in a few threads; use it in a ``with`` block, which ends the threads.

    Args:
        texts: Where the texts and photo paths of pending rows are.
        folder: The catalogue's folder.
        encoder: The encoder's fingerprint.
    """

    def __init__(self, texts: Texts, folder: Path, encoder: str) -> None:
        self._texts = texts
        self._folder = folder
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "molar-read")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, plan: Sequence[Rows]) -> Iterator[Batch]:
        """The batches in order; the next ones are loaded meanwhile, within a bound on their memory."""
        waiting = iter(plan)
        window = deque(self._begin(rows) for rows in islice(waiting, 1))
        while window:
            batch = self._end(window.popleft())
            ahead = max(1, min(_AHEAD, _AHEAD_BYTES // max(1, batch.image_bytes)))
            window.extend(self._begin(rows) for rows in islice(waiting, max(0, ahead - len(window))))
            yield batch

    def _begin(self, rows: Rows) -> "_Loading":
        started = perf_counter()
        pairs = list(self._texts.fetch(rows))
        photos = [None if path is None else self._pool.submit(load_photo, self._folder, path) for _, path in pairs]
        return _Loading(rows, pairs, photos, perf_counter() - started)

    def _end(self, loading: "_Loading") -> Batch:
        n = len(loading.rows)
        batch = Batch(loading.rows, [], np.zeros(n, RECORD), seconds=loading.seconds)
        keys, image_hashes = [], [NO_HASH] * n
        batch.records["image_size"] = -1
        batch.records["status"] = Status.DONE
        for i, ((text, path), future) in enumerate(zip(loading.pairs, loading.photos, strict=True)):
            photo = None if future is None else future.result()
            keys.append(item_key(self._encoder, text, None if photo is None else photo.image_hash))
            batch.inputs.append(EncoderInput(text, None if photo is None else photo.image))
            if photo is not None and path is not None:
                batch.seconds += photo.seconds
                image_hashes[i] = photo.image_hash
                _note_photo(batch, i, path, photo)
        batch.records["key"], batch.records["image_hash"] = hashes(keys), hashes(image_hashes)
        return batch


@dataclass(frozen=True)
class _Loading:
    rows: Rows
    pairs: list[tuple[str | None, str | None]]
    photos: list[Future[Photo] | None]
    seconds: float


def _note_photo(batch: Batch, i: int, path: str, photo: Photo) -> None:
    record = batch.records[i : i + 1]
    record["image_size"], record["image_mtime"] = photo.size, photo.mtime
    record["stamp"] = image_stamp(path, photo.size, photo.mtime) if photo.size >= 0 else 0
    if photo.reason is not None:
        batch.reasons[int(batch.rows[i])] = photo.reason


def load_photo(folder: Path, path: str) -> Photo:
    """Decode a photo and hash its bytes; what is returned belongs together even if the file is replaced meanwhile."""
    started = perf_counter()
    for _ in range(_ATTEMPTS):
        size, mtime = stat_image(folder, path)
        image, reason = decode(folder, path)
        image_hash = hash_image(folder, path, exists=size >= 0)
        if stat_image(folder, path) == (size, mtime):
            return Photo(image, reason, image_hash, size, mtime, perf_counter() - started)
    reason = "it kept changing while it was read"
    return Photo(None, reason, NO_HASH, -1, 0, perf_counter() - started)


def decode(folder: Path, path: str) -> tuple[Image.Image | None, str | None]:
    """A photo, or None and why it cannot be used."""
    try:
        return open_image(folder, path), None
    except ImageError as error:
        return None, error.reason
    except OSError as error:
        return None, f"cannot be read: {error}"
