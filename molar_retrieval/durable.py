"""Files and folders that survive a loss of power: they are waited for before anything depends on them. Links."""

import errno
import os
import shutil
from pathlib import Path

OWNER, _FOLDER = 0o600, 0o700
"""Who may read what has people in it: its owner."""

_NO_FOLDERS = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES}
"""How a file system says that it cannot wait for a folder, as some network ones do; it orders renames by itself."""


def sync_tree(folder: Path) -> None:
    """Wait until every file below a folder, and every folder with its names, is on the disk."""
    from concurrent.futures import ThreadPoolExecutor

    below = [path for path in folder.rglob("*") if not path.is_symlink()]
    with ThreadPoolExecutor(8) as pool:  # a file system with a journal then writes it once for several of them
        list(pool.map(sync_file, [path for path in below if path.is_file()]))
        list(pool.map(sync_folder, [path for path in below if path.is_dir()]))
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: what was renamed in it before is so after a loss of power."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDERS:
            raise


def write_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Write a small text file so that a reader sees the old content or the new one, nothing between.

    ``mode`` None: who may read it is as for any new file; else it has these permissions before there is a byte in it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        if mode is not None:
            temporary.chmod(mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def for_owner(path: Path) -> None:
    """Let nobody but its owner read a file, or any file below a folder: there are people in it."""
    for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
        file.chmod(_FOLDER if file.is_dir() else OWNER)


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Bring a file to another place: by a hard link, which takes no space, or a copy where the file system has none."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
