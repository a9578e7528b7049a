"""The folder an import goes to: it appears complete, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from molar_retrieval.catalog.catalogue import ITEMS_FILE
from molar_retrieval.catalog.images import FOLDER
from molar_retrieval.catalog.rejects import FILE_NAME as REJECTS_FILE
from molar_retrieval.catalog.spec import FILE_NAME as TOML_FILE
from molar_retrieval.errors import DataError

LOG_FILE = "interactions.parquet"
USERS_FILE = "users.parquet"
REPORT_FILE = "import.json"
_OURS = {ITEMS_FILE, LOG_FILE, USERS_FILE, REJECTS_FILE, REPORT_FILE, TOML_FILE, FOLDER}


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A hidden folder beside ``target`` that takes its place when the body has succeeded, and is removed otherwise.

    An earlier import is moved aside and back again should the last step fail; it is deleted after that step only.

    Args:
        target: Where the result goes; made, with its parents, where it does not exist.
        overwrite: Replace an earlier import. Nothing else is ever replaced.

    Raises:
        DataError: If the target is not empty and may not be replaced.
    """
    target = target.resolve()
    full = _check(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had the same number
    partial.mkdir()
    try:
        yield partial
        if full:
            _check(target, overwrite=overwrite)  # it may have changed meanwhile
            _swap(partial, target)
        else:
            partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check(target: Path, *, overwrite: bool) -> bool:
    """Whether there is something to replace."""
    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file", "name a folder with --to")
    found = {path.name for path in target.iterdir()} if target.exists() else set()
    if not found:
        return False
    if REPORT_FILE not in found:
        raise DataError(f"{target} holds something that no import wrote", "name a new or an empty folder with --to")
    if not overwrite:
        raise DataError(f"{target} holds an earlier import", "name another folder, or replace it with --overwrite")
    if others := sorted(found - _OURS):
        hint = "move them elsewhere first, --overwrite replaces the whole folder"
        raise DataError(f"{target} also holds {', '.join(others)}, which no import wrote", hint)
    return True


def _swap(partial: Path, target: Path) -> None:
    old = partial.with_suffix(".old")
    target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)
