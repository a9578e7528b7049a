"""Copies of workspaces that take as little room as the originals: files of an index are mostly holes."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def copy_file(source: str, target: str) -> str:
    """Copy a file with its times and permissions, holes included where the file system has them."""
    size = Path(source).stat().st_size
    with Path(source).open("rb") as read, Path(target).open("wb") as write:
        at = 0
        while at < size:
            try:
                start = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole to the end
                break
            at = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            read.seek(start)
            write.seek(start)
            write.write(read.read(at - start))
        write.truncate(size)
    shutil.copystat(source, target)
    return target


def copy_workspace(
    source: Path, target: Path, ignore: Callable[[Any, list[str]], Iterable[str]] | None = None, symlinks: bool = False
) -> Path:
    """Copy a folder with an index in it."""
    return Path(shutil.copytree(source, target, ignore=ignore, symlinks=symlinks, copy_function=copy_file))
