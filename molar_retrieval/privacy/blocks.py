"""Files as bytes, block by block; holes are passed over."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from molar_retrieval.privacy.found import FileFindings
from molar_retrieval.privacy.needles import Match, Needles

BLOCK = 1 << 20


class Block(NamedTuple):
    """Bytes of a file: where they begin, how many of them the block before had as well, whether they are the last."""

    start: int
    before: int
    data: bytes
    last: bool


def blocks(path: Path, overlap: int) -> Iterator[Block]:
    """A file, block by block; of a hole come only ``overlap`` zeros."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        at, tail = 0, b""
        while at < size:
            after = _next_data(file.fileno(), at, size)
            hole = after - at > overlap
            file.seek(at)
            data = bytes(overlap) if hole else file.read(min(BLOCK, size - at))
            if not data and not hole:
                return  # it has become shorter
            end = after if hole else at + len(data)
            whole = tail + data
            yield Block(at - len(tail), len(tail), whole, end >= size)
            tail = bytes(overlap) if hole else whole[-overlap:] if overlap else b""
            at = end


def _next_data(file: int, at: int, size: int) -> int:
    """Where the next byte that is stored lies; ``at`` where the system cannot tell."""
    try:
        return os.lseek(file, at, os.SEEK_DATA)
    except AttributeError:  # Windows
        return at
    except OSError:  # nothing but a hole to the end, or a file system that knows of none
        return size if os.lseek(file, 0, os.SEEK_END) == size and _ends_in_hole(file, at, size) else at


def _ends_in_hole(file: int, at: int, size: int) -> bool:
    try:
        return os.lseek(file, at, os.SEEK_HOLE) == at and at < size
    except OSError:
        return False


def look_at_bytes(
    path: Path, needles: Needles, found: FileFindings, *, words: bool = False, names: bool = True
) -> None:
    """Look through a file as bytes.

    Args:
        path: The file.
        needles: What is looked for.
        found: Where it is taken down.
        words: Whether it is text, in which a name is a word of its own.
        names: Whether names may stand in it; else numbers alone.
    """
    around = needles.around
    for start, before, data, last in blocks(path, needles.overlap):
        for at, what, size in needles.windows.find(data):
            if at + size > before:
                found.add(Match(what), f"byte {start + at:,}")
        for at, size, match in needles.data(data, words=words) if names else ():
            # What stands around a name is needed to judge it, so one at the end is left to the next block.
            if at + size + around > before and (last or at + size + around <= len(data)):
                found.add(match, f"byte {start + at:,}")
