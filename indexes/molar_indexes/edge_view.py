"""Reading a shard without writing to it: the engine is given a private view, for as long as it opens the files.

The engine, even where it is only asked, opens many files for writing: it renames its JSON files onto themselves, cuts
files to the length that they have and maps them writable. So what it opens for writing is copied, and what it only
reads is linked: a folder with a link to every large file, and copies of the others, small and full of holes, in memory
where there is room. All files are open or mapped once the shard is loaded, so then the view goes.

A published shard is thereby never touched: it may lie on read-only media, belong to somebody else, or fill a disk.
"""

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from molar_retrieval.errors import DiskError

_PREFIX = "molar-view-"
_ABANDONED = 3600
"""Seconds after which a view is that of a process which was killed while it opened a shard."""
_LINKED = {"matrix.dat", "inverted_index.dat", "id_tracker.mappings"}
_LINKED_KIND = ".bin"
"""What the engine opens for reading only, by name or by the end of it; all else may be opened for writing."""
_PAGE = "page_"
"""Files of values, of any size; the engine opens them for writing, but writes nothing where nothing is changed."""
_LARGE = 32 << 20
"""Bytes of pages that are copied; more are linked where the engine may open them, which costs nothing."""
_MEMORY = Path("/dev/shm")
_BLOCK = 1 << 16
_NOTHING = bytes(_BLOCK)
_SPARE = 8 << 20
"""Bytes that are left free beside a view."""


@contextmanager
def view(shard: Path) -> Iterator[Path]:
    """A folder that the engine may open instead of ``shard``; it is removed when the context is left.

    Raises:
        DiskError: If there is no room for it, or a file may not be read.
        OSError: If there is no such shard.
    """
    folders, files = _listing(shard)
    pages = [name for name in files if _last(name).startswith(_PAGE)]
    linked = {name for name in files if name.endswith(_LINKED_KIND) or _last(name) in _LINKED}
    if sum(files[name] for name in pages) > _LARGE and all(os.access(shard / name, os.W_OK) for name in pages):
        linked.update(pages)
    need = sum(size for name, size in files.items() if name not in linked)
    place = _roomy(shard, need) / f"{_PREFIX}{os.urandom(8).hex()}"
    place.mkdir(0o700)
    try:
        for folder in folders:
            (place / folder).mkdir()
        for name in files:
            _bring(shard.absolute() / name, place / name, link=name in linked)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _listing(shard: Path) -> tuple[list[str], dict[str, int]]:
    """The folders of a shard, outer ones first, and its files with the bytes that each takes on its disk."""
    folders: list[str] = []
    files: dict[str, int] = {}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(shard / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir():
                    folders.append(name)
                    waiting.append(name)
                else:
                    files[name] = entry.stat().st_blocks * 512
    return folders, files


def _roomy(shard: Path, need: int) -> Path:
    """Where a view of so many bytes has room: in memory, else among the temporary files."""
    if _fits(_MEMORY, need):
        return _MEMORY
    import tempfile  # takes a while, and memory is there nearly always

    with suppress(FileNotFoundError):  # where no folder for temporary files can be written to
        if _fits(place := Path(tempfile.gettempdir()), need):
            return place
    raise DiskError(
        f"opening {shard} takes {(need + _SPARE) / 1e6:,.0f} MB of temporary files: there is no room for them, neither"
        f" in {_MEMORY} nor among the temporary files",
        "make room there, or name another folder in the environment variable TMPDIR",
    )


def _fits(place: Path, need: int) -> bool:
    if not place.is_dir() or not os.access(place, os.W_OK) or shutil.disk_usage(place).free < need + _SPARE:
        return False
    _sweep(place)
    return True


def _sweep(place: Path) -> None:
    """Remove one's own views that a killed process left."""
    with suppress(OSError):
        for left in place.glob(f"{_PREFIX}*"):
            facts = left.lstat()
            if (
                stat.S_ISDIR(facts.st_mode)
                and facts.st_uid == os.getuid()
                and time.time() - facts.st_mtime > _ABANDONED
            ):
                shutil.rmtree(left, ignore_errors=True)


def _bring(source: Path, target: Path, *, link: bool) -> None:
    try:
        if not link:
            _copy(source, target)
        elif os.access(source, os.R_OK):
            target.symlink_to(source)
        else:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(source))
    except PermissionError as error:
        raise DiskError(
            f"{source} may not be read by this user",
            "let its owner run `chmod -R a+rX` on the workspace, or ask as its owner",
        ) from error


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its holes, and make holes of zeros."""
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        size = os.fstat(read.fileno()).st_size
        write.truncate(size)
        place = 0
        while place < size:
            try:
                place = os.lseek(read.fileno(), place, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                return
            end = os.lseek(read.fileno(), place, os.SEEK_HOLE)
            while place < end:
                block = os.pread(read.fileno(), min(_BLOCK, end - place), place)
                if not block:
                    return
                if block != _NOTHING[: len(block)]:
                    os.pwrite(write.fileno(), block, place)
                place += len(block)
