"""Fingerprints: short names for exactly what a result was made from."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from molar_retrieval.holes import filled


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
