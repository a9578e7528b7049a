"""The keys by which unchanged items and photos are known again."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.workspace import fingerprint

Hashes = npt.NDArray[np.uint64]  # shape (n, 2): 128-bit hashes; zeros where there is none
Rows = npt.NDArray[np.int64]  # row numbers

NO_HASH = bytes(16)
UNREADABLE = b"\xff" * 16  # stands for the content of a photo that cannot be read at all
_READER = b"1"  # change it when photos or texts are read in another way


def item_key(encoder: str, text: str | None, image_hash: bytes | None) -> bytes:
    """16 bytes that name what an item's vector depends on: the encoder's fingerprint, the text, the photo's hash."""
    text_part = b"-" if text is None else b"+" + text.encode("utf-8", "surrogatepass")
    parts = [_READER, encoder.encode(), text_part, image_hash or b"-"]
    return bytes.fromhex(fingerprint.of_bytes(parts))


def image_stamp(path: str, size: int, mtime_ns: int) -> int:
    """One number for a photo's place, size and time; equal stamps mean that it need not be read again."""
    digest = hashlib.blake2b(f"{path}\0{size}\0{mtime_ns}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def hashes(digests: Sequence[bytes | None]) -> Hashes:
    """16-byte digests as an array of shape (n, 2); zeros for None."""
    return np.frombuffer(b"".join(one or NO_HASH for one in digests), "<u8").reshape(len(digests), 2)


def digest(row: npt.NDArray[np.uint64]) -> bytes:
    """One row of a :data:`Hashes` array as 16 bytes."""
    return row.astype("<u8").tobytes()


DIGEST = pa.binary(16)
FIELDS = [
    pa.field("key", DIGEST),
    pa.field("image", pa.string()),
    pa.field("image_size", pa.int64()),
    pa.field("image_mtime", pa.int64()),
    pa.field("image_hash", DIGEST),
    pa.field("reason", pa.string()),
]
"""What is remembered of an item beside its vector, in shards and in published tables: its key, null where it could not
be encoded; the photo's path (null where it was not looked at), bytes (-1: no file), time in ns and hash; why the photo,
or the item, was left out."""
