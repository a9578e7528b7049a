"""Fingerprints: short names for exactly what a result was made from; of files with holes, without reading the holes."""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_PAGE, _BLOCK = 1 << 12, 1 << 16
_NOTHING = bytes(_BLOCK)


def filled(file: int) -> Iterator[tuple[int, bytes]]:
    """What an open file holds but for pages of zeros, in pieces with their places.

    Whether zeros are stored or a hole makes no difference, so a copy with its holes filled has the same pieces.
    """
    for start, end in _stored(file):
        for place in range(start, end, _BLOCK):
            block = os.pread(file, _BLOCK, place)
            if block != _NOTHING[: len(block)]:
                yield from pages(place, block)


def pages(place: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """The stretches of a block at a place that are not zeros, by pages."""
    begin: int | None = None
    for at in range(0, len(block) + _PAGE, _PAGE):
        page = block[at : at + _PAGE]
        if page == _NOTHING[: len(page)]:
            if begin is not None:
                yield place + begin, block[begin:at]
            begin = None
        elif begin is None:
            begin = at


def _stored(file: int) -> Iterator[tuple[int, int]]:
    """Where an open file has no hole, from the beginning of a block on; no block twice."""
    size, place = os.fstat(file).st_size, 0
    while place < size:
        try:
            start = os.lseek(file, place, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            start, end = place, size  # the file system knows of no holes
        yield start // _BLOCK * _BLOCK, end
        place = -(-end // _BLOCK) * _BLOCK


def of_json(value: Any) -> str:
    """The fingerprint of a JSON-able value, whatever the order of its keys (32 hex digits)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def of_bytes(parts: Iterable[bytes | memoryview]) -> str:
    """The fingerprint of a sequence of byte strings; their borders count."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def of_content(content: bytes) -> str:
    """The fingerprint of a file's content, as :func:`of_file` gives it."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def of_file(path: Path) -> str:
    """The fingerprint of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def of_sparse_file(path: Path) -> str:
    """The fingerprint of a file of which zeros are not hashed, nor read where they are holes."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        for place, block in filled(file.fileno()):
            digest.update(place.to_bytes(8, "little"))
            digest.update(len(block).to_bytes(8, "little"))
            digest.update(block)
    return digest.hexdigest()
