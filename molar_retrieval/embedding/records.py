"""What is remembered of each row beside its vector, and the keys by which unchanged items are known again.

A record is written after its vector and carries a checksum of both, so a row counts as done only when both are
whole, whatever ended the process.
"""

import hashlib
import zlib
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval import fingerprint

Hashes = npt.NDArray[np.uint64]
"""Shape (n, 2): 128-bit hashes; zeros where there is none."""

NO_HASH = bytes(16)
UNREADABLE = b"\xff" * 16
"""Stands for the content of a photo that cannot be read at all."""

RECORD: np.dtype[Any] = np.dtype(
    [
        ("key", "<u8", (2,)),
        ("image_hash", "<u8", (2,)),
        ("stamp", "<u8"),
        ("image_size", "<i8"),
        ("image_mtime", "<i8"),
        ("status", "<u4"),
        ("checksum", "<u4"),
    ]
)
_CHECKED = RECORD.itemsize - 4
_READER = b"1"  # change it when photos or texts are read in another way


class Status(IntEnum):
    """How far a row is."""

    EMPTY = 0
    DONE = 1
    BLANK = 2
    """Done, and there was nothing to see: the vector is zero."""
    FAILED = 3
    """Not for this run; the next one tries again."""


def item_key(encoder: str, text: str | None, image_hash: bytes | None) -> bytes:
    """The 16-byte name of everything that an item's vector depends on.

    Args:
        encoder: The encoder's fingerprint.
        text: What the encoder reads, or None.
        image_hash: Hash of the photo's bytes, or None for an item without photo.
    """
    text_part = b"-" if text is None else b"+" + text.encode("utf-8", "surrogatepass")
    parts = [_READER, encoder.encode(), text_part, image_hash or b"-"]
    return bytes.fromhex(fingerprint.of_bytes(parts))


def image_stamp(path: str, size: int, mtime_ns: int) -> int:
    """One number for a photo's place, size and time; equal stamps mean that it need not be read again."""
    digest = hashlib.blake2b(f"{path}\0{size}\0{mtime_ns}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def hashes(digests: Sequence[bytes]) -> Hashes:
    """16-byte digests as an array of shape (n, 2)."""
    return np.frombuffer(b"".join(digests), "<u8").reshape(len(digests), 2)


def digest(row: npt.NDArray[np.uint64]) -> bytes:
    """One row of a :data:`Hashes` array as 16 bytes."""
    return row.astype("<u8").tobytes()


def checksums(records: npt.NDArray[Any], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """The checksum of each record together with its vector (shape: as many as records)."""
    heads = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), RECORD.itemsize)[:, :_CHECKED]
    pairs = zip(np.ascontiguousarray(heads), np.ascontiguousarray(vectors, "<f4"), strict=True)
    return np.fromiter((zlib.crc32(head, zlib.crc32(vector)) for head, vector in pairs), np.uint32, len(records))


def finished(records: npt.NDArray[Any], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which rows are whole: their record was written, and it matches the vector."""
    begun = records["status"] != Status.EMPTY
    done = np.zeros(len(records), bool)
    if begun.any():
        done[begun] = records["checksum"][begun] == checksums(records[begun], vectors[begun])
    return done
