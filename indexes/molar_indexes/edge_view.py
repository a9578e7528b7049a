"""Reading a shard without writing to it: the engine is given a private view, for as long as it opens the files.

The engine, even where it is only asked, renames its JSON files onto themselves, cuts files to the length that they
have and maps them writable. So what it opens for writing is copied, and what it only reads is linked, in memory where
there is room. A published shard is thereby never touched: it may lie on read-only media, belong to somebody else, or
fill a disk.
"""

import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from molar_retrieval.errors import DiskError
from molar_retrieval.workspace.fingerprint import filled

_PREFIX = "molar-view-"
_ABANDONED = 3600  # seconds after which a view is that of a process which was killed while it opened a shard
_LINKED = {"matrix.dat", "quantized.data", "inverted_index.dat", "id_tracker.mappings"}
_LINKED_KIND = ".bin"
"""What the engine opens for reading only, by name or by the end of it; all else may be opened for writing."""
_PAGE = "page_"
"""Files of values, of any size; the engine opens them for writing, but writes nothing where nothing is changed."""
_LARGE = 32 << 20
"""Bytes of pages that are copied; of more the folders are linked, where the engine may open what is in there."""
_MEMORY = Path("/dev/shm")
_LITTLE = 128 << 20  # bytes that an index may take in memory while it is made
_SPARE = 8 << 20  # bytes that a view leaves free
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def view(shard: Path) -> Iterator[Path]:
    """A folder that the engine may open instead of ``shard``; it is removed when the context is left.

    Raises:
        DiskError: If there is no room for it, or a file may not be read.
        OSError: If there is no such shard.
    """
    shard = shard.absolute()
    place = _made(shard, *_listing(shard))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def workshop(need: float) -> Iterator[Path | None]:
    """An empty folder in memory that is removed in the end; None where ``need`` bytes are too many there."""
    if not os.access(_MEMORY, os.W_OK) or need > min(_LITTLE, shutil.disk_usage(_MEMORY).free / 2):
        yield None
        return
    _sweep(_MEMORY)
    place = _MEMORY / f"{_PREFIX}{os.urandom(8).hex()}"
    place.mkdir(0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def copied(shard: Path, place: Path) -> None:
    """Copy all files of a shard into a folder, without the holes that they have or could have; OSError if it fails."""
    folders, files = _listing(shard)
    for name in folders:
        (place / name).mkdir()
    for name in files:
        _copy(shard / name, place / name)


def _listing(shard: Path) -> tuple[list[str], list[str]]:
    """The names of a shard's folders, outer ones first, and of its files."""
    folders: list[str] = []
    files: list[str] = []
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(shard / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                (folders if entry.is_dir() else files).append(name)
                waiting += [name] if entry.is_dir() else []
    return folders, files


def _made(shard: Path, folders: list[str], files: list[str]) -> Path:
    """A view in memory, or among the temporary files where there is no room."""
    for root in _roots():
        _sweep(root)
        place = root / f"{_PREFIX}{os.urandom(8).hex()}"
        try:
            place.mkdir(0o700)
            _fill(place, shard, folders, files)
        except BaseException as error:
            shutil.rmtree(place, ignore_errors=True)
            if not isinstance(error, OSError) or error.errno not in _NO_ROOM:
                raise
        else:
            return place
    raise DiskError(
        f"there is no room to open {shard}, neither in {_MEMORY} nor among the temporary files",
        "make room there, or name another folder in the environment variable TMPDIR",
    )


def _fill(place: Path, shard: Path, folders: list[str], files: list[str]) -> None:
    for name in folders:
        (place / name).mkdir()
    stores = {_folder(name) for name in files if name.rpartition("/")[2].startswith(_PAGE)}
    stored = [name for name in files if _folder(name) in stores]
    budget = _LARGE if all(os.access(shard / name, os.W_OK) for name in stored) else sys.maxsize
    for name in stored:
        budget -= _bring(shard / name, place / name)
        if budget < 0:
            for store in stores:
                shutil.rmtree(place / store)
                (place / store).symlink_to(shard / store)
            break
    for name in files:
        if _folder(name) not in stores:
            _bring(shard / name, place / name)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _roots() -> Iterator[Path]:
    if _MEMORY.is_dir():
        yield _MEMORY
    import tempfile  # takes a while, and there is room in memory nearly always

    with suppress(FileNotFoundError):  # there is none that can be written to
        yield Path(tempfile.gettempdir())


def _sweep(place: Path) -> None:
    """Remove one's own views that a killed process left."""
    with suppress(OSError):
        for left in place.glob(f"{_PREFIX}*"):
            facts = left.lstat()
            old = time.time() - facts.st_mtime > _ABANDONED
            if old and stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)


def _bring(source: Path, target: Path) -> int:
    """Link or copy a file; returns how many bytes that took."""
    link = source.suffix == _LINKED_KIND or source.name in _LINKED
    try:
        if not link:
            return _copy(source, target)
        source.open("rb").close()  # else the engine says it, in its own words
    except PermissionError as error:
        if error.filename != str(source):
            raise
        raise DiskError(
            f"{source} may not be read by this user",
            "let its owner run `chmod -R a+rX` on the workspace, or ask as its owner",
        ) from error
    target.symlink_to(source)
    return 0


def _copy(source: Path, target: Path) -> int:
    """Copy a file with its holes, and make holes of zeros; returns how many bytes are left."""
    copied = 0
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        write.truncate(os.fstat(read.fileno()).st_size)
        for place, block in filled(read.fileno()):
            copied += os.pwrite(write.fileno(), block, place)
        room = os.fstatvfs(write.fileno())
        if copied and room.f_bavail * room.f_frsize < _SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    return copied
