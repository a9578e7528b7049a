"""Reads ahead: texts and decoded photos of the next batches are ready before the encoder asks for them."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from PIL import Image

from molar_retrieval.data.images import ImageError, open_image
from molar_retrieval.embedding.batches import Texts
from molar_retrieval.embedding.catalogue import NO_FILE, stat_image
from molar_retrieval.embedding.keys import FIELDS, NO_HASH, Rows, item_key
from molar_retrieval.embedding.resolve import hash_image
from molar_retrieval.encoders.base import EncoderInput

_AHEAD = 3  # batches
_AHEAD_BYTES = 256 << 20  # of decoded photos
_ATTEMPTS = 3
_Pair = tuple[str | None, str | None]  # a text and the path of a photo


@dataclass
class InputBatch:
    """What the encoder gets for some rows, in catalogue order, and the columns of keys.FIELDS that are remembered."""

    rows: Rows
    inputs: list[EncoderInput] = field(default_factory=list)
    items: dict[str, list[Any]] = field(default_factory=lambda: {field.name: [] for field in FIELDS})
    seconds: float = 0.0  # of reading, summed over threads

    @property
    def image_bytes(self) -> int:
        """Memory of the decoded photos."""
        return sum(3 * item.image.width * item.image.height for item in self.inputs if item.image is not None)

    def fail(self, i: int, reason: str) -> None:
        """Note that the ``i``-th item could not be encoded; the next run tries it again."""
        self.items["key"][i], self.items["reason"][i] = None, reason


@dataclass(frozen=True)
class Photo:
    """A photo as it was when it was read."""

    image: Image.Image | None = None
    reason: str | None = None  # why it could not be decoded
    image_hash: bytes | None = None
    size: int = NO_FILE  # in bytes, -1 where there is no file
    mtime: int = 0  # in ns
    seconds: float = 0.0  # time spent on it


class Reader:
    """Loads batches in a few threads; use it in a ``with`` block, which ends the threads."""

    def __init__(self, texts: Texts, folder: Path, encoder: str) -> None:
        self._texts = texts
        self._folder = folder
        self._encoder = encoder
        self._pool = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "molar-read")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, batches: Iterable[Rows]) -> Iterator[InputBatch]:
        """The batches in order; the next ones are loaded meanwhile, within a bound on their memory."""
        waiting = iter(batches)
        window = deque(self._begin(rows) for rows in islice(waiting, 1))
        while window:
            batch = self._end(*window.popleft())
            ahead = max(1, min(_AHEAD, _AHEAD_BYTES // max(1, batch.image_bytes)))
            window.extend(self._begin(rows) for rows in islice(waiting, max(0, ahead - len(window))))
            yield batch

    def _begin(self, rows: Rows) -> tuple[InputBatch, list[_Pair], list[Future[Photo] | None]]:
        started = perf_counter()
        pairs = list(self._texts.fetch(rows.tolist()))
        photos = [None if path is None else self._pool.submit(load_photo, self._folder, path) for _, path in pairs]
        return InputBatch(rows, seconds=perf_counter() - started), pairs, photos

    def _end(self, batch: InputBatch, pairs: list[_Pair], photos: list[Future[Photo] | None]) -> InputBatch:
        for (text, path), future in zip(pairs, photos, strict=True):
            photo = Photo() if future is None else future.result()
            batch.inputs.append(EncoderInput(text, photo.image))
            key = item_key(self._encoder, text, photo.image_hash)
            told = (key, path, photo.size, photo.mtime, photo.image_hash, photo.reason)
            for column, value in zip(batch.items.values(), told, strict=True):
                column.append(value)
            batch.seconds += photo.seconds
        return batch


def load_photo(folder: Path, path: str) -> Photo:
    """Decode a photo and hash its bytes; what is returned belongs together even if the file is replaced meanwhile."""
    started = perf_counter()
    for _ in range(_ATTEMPTS):
        size, mtime = stat_image(folder, path)
        image, reason = decode(folder, path)
        image_hash = hash_image(folder, path, exists=size >= 0)
        if stat_image(folder, path) == (size, mtime):
            return Photo(image, reason, image_hash, size, mtime, perf_counter() - started)
    return Photo(None, "it kept changing while it was read", NO_HASH, seconds=perf_counter() - started)


def decode(folder: Path, path: str) -> tuple[Image.Image | None, str | None]:
    """A photo, or None and why it cannot be used."""
    try:
        return open_image(folder, path), None
    except ImageError as error:
        return None, error.reason
    except OSError as error:
        return None, f"cannot be read: {error}"
