"""Copies of workspaces that take as little room as the originals: files of an index are mostly holes."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from molar_retrieval.workspace.fingerprint import filled


def copy_file(source: str, target: str) -> str:
    """Copy a file with its times and permissions, but for the zeros in it, which become holes."""
    with Path(source).open("rb", buffering=0) as read, Path(target).open("wb", buffering=0) as write:
        for place, piece in filled(read.fileno()):
            os.pwrite(write.fileno(), piece, place)
        write.truncate(os.fstat(read.fileno()).st_size)
    shutil.copystat(source, target)
    return target


def copy_workspace(
    source: Path, target: Path, ignore: Callable[[Any, list[str]], Iterable[str]] | None = None, symlinks: bool = False
) -> Path:
    """Copy a folder with an index in it."""
    return Path(shutil.copytree(source, target, ignore=ignore, symlinks=symlinks, copy_function=copy_file))
