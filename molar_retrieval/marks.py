"""Whether a file is still what it was, for the price of a look into its folder."""

import os
from functools import lru_cache
from pathlib import Path


def mark_of(path: Path) -> object:
    """What changes whenever a file is replaced or written to; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a call less of Python, several times an answer
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=64)
def file_in(folder: Path, name: str) -> Path:
    """A file of a folder that is looked at before every answer: to join the path costs more than the look."""
    return folder / name
