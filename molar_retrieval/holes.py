"""Files that are holes for the most part, as those of an index are: only what is stored in them is read."""

import errno
import os
from collections.abc import Iterator

_PAGE, _BLOCK = 1 << 12, 1 << 16
_NOTHING = bytes(_BLOCK)


def filled(file: int) -> Iterator[tuple[int, bytes]]:
    """What an open file holds but for pages of zeros, in pieces with their places.

    Whether zeros are stored or a hole makes no difference, so a copy with its holes filled has the same pieces.
    """
    for start, end in _stored(file):
        for place in range(start, end, _BLOCK):
            block = os.pread(file, _BLOCK, place)
            if block != _NOTHING[: len(block)]:
                yield from pages(place, block)


def pages(place: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    """The stretches of a block at a place that are not zeros, by pages."""
    begin: int | None = None
    for at in range(0, len(block) + _PAGE, _PAGE):
        page = block[at : at + _PAGE]
        if page == _NOTHING[: len(page)]:
            if begin is not None:
                yield place + begin, block[begin:at]
            begin = None
        elif begin is None:
            begin = at


def _stored(file: int) -> Iterator[tuple[int, int]]:
    """Where an open file has no hole, from the beginning of a block on; no block twice."""
    size, place = os.fstat(file).st_size, 0
    while place < size:
        try:
            start = os.lseek(file, place, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            start, end = place, size  # the file system knows of no holes
        yield start // _BLOCK * _BLOCK, end
        place = -(-end // _BLOCK) * _BLOCK
