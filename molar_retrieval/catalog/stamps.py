"""A cheap answer to "have the source files changed?": names, sizes and modification times."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MODULUS = 1 << 128


def file_stamps(folder: Path, names: Iterable[str]) -> dict[str, list[int] | None]:
    """Size and modification time (ns) of each named file in a folder; None for one that is not there."""
    return {name: _stamp(folder / name) for name in names}


def tree_stamp(folder: Path, roots: Iterable[str]) -> dict[str, Any]:
    """One stamp for all files below some folders of the catalogue.

    Args:
        folder: The catalogue's folder.
        roots: Top-level folders in it, each with everything below; ``""`` is the catalogue's folder without its
            folders.

    Returns:
        The roots, the number of files, and a digest over path, size and modification time of each file. Sums of
        hashes, so that a million files need neither sorting nor memory.
    """
    total, count = 0, 0
    roots = sorted(set(roots))
    for root in roots:
        for relative, size, modified in _files(folder / root, root, deep=bool(root)):
            digest = hashlib.blake2b(f"{relative}\0{size}\0{modified}".encode("utf-8", "surrogateescape"))
            total = (total + int.from_bytes(digest.digest()[:16], "big")) % _MODULUS
            count += 1
    return {"roots": roots, "files": count, "digest": f"{total:032x}"}


def _files(folder: Path, relative: str, deep: bool) -> Iterable[tuple[str, int, int]]:
    pending = [(str(folder), relative)]
    while pending:
        path, below = pending.pop()
        try:
            entries = os.scandir(path)
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if deep:
                        pending.append((entry.path, f"{below}/{entry.name}"))
                    continue
                try:
                    found = entry.stat()
                except OSError:  # a broken link
                    found = entry.stat(follow_symlinks=False)
                yield f"{below}/{entry.name}", found.st_size, found.st_mtime_ns


def _stamp(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
