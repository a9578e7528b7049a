"""Stretches of numbers that are one person's alone, found among bytes wherever they begin."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

SIZE = 16
"""Bytes of a stretch of a vector: four numbers of 32 bits."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ZEROS = 18
"""No stretch begins with so many zeros, which files have in long rows."""
_AT_ONCE = 100_000


class ByteWindows:
    """Byte strings of 16 bytes or more, looked for all at once: by their first two bytes, then by a hash of 16.

    Args:
        meanings: What each of them is, as a report calls it.
    """

    def __init__(self, meanings: Mapping[bytes, str]) -> None:
        self.counts = dict(Counter(meanings.values()))
        self.longest = max(map(len, meanings), default=0)
        self._by_hash: dict[int, list[tuple[bytes, str]]] = {}
        self._begins = np.zeros(1 << 16, bool)
        for needle, what in meanings.items():
            self._by_hash.setdefault(int(_hashes(needle, np.zeros(1, np.int64))[0]), []).append((needle, what))
            self._begins[int.from_bytes(needle[:2], "little")] = True
        self._hashes = np.array(sorted(self._by_hash), dtype=np.uint64)

    def find(self, data: bytes, step: int = 1) -> Iterator[tuple[int, str, int]]:
        """Where they are: offset, what it is, how many bytes; ``step``: they begin at its multiples only."""
        count = len(data) - SIZE + 1
        if not self._by_hash or count < 1:
            return
        places = np.flatnonzero(self._begins[np.ndarray(count, "<u2", data, strides=1)[::step]]) * step
        if self._begins[0]:
            filled = np.concatenate([[0], np.cumsum(np.frombuffer(data, np.uint8) != 0, dtype=np.int64)])
            places = places[filled[np.minimum(places + _ZEROS, len(data))] > filled[places]]
        for begin in range(0, len(places), _AT_ONCE):
            some = places[begin : begin + _AT_ONCE]
            hashes = _hashes(data, some)
            known = np.isin(hashes, self._hashes)
            for at, one in zip(some[known].tolist(), hashes[known].tolist(), strict=True):
                for needle, what in self._by_hash[one]:
                    if data.startswith(needle, at):
                        yield at, what, len(needle)


def _hashes(data: bytes, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A hash of the 16 bytes at each place."""
    numbers: npt.NDArray[np.uint64] = np.ndarray(len(data) - 7, np.dtype("<u8"), data, strides=1)
    hashes: npt.NDArray[np.uint64] = numbers[places] * _ODD + numbers[places + 8]
    return hashes


def stretches(numbers: npt.NDArray[np.float32]) -> Iterable[bytes]:
    """The stretches of a vector of 32-bit numbers that tell it from others: four numbers, all but one different."""
    for at in range(len(numbers) - 3):
        if len(set(numbers[at : at + 4].tolist())) >= 3:
            yield numbers[at : at + 4].astype("<f4").tobytes()


def own_stretches(
    items: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64], row: int, length: int = 4
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Stretches of a history that nobody else has, and those that others have too, shape (n, length) each.

    Left out are those that any table of numbers may hold: fewer than three different rows, or rows that count up or
    down by one.

    Args:
        items: Item rows of all people, grouped by person, in the order of time.
        offsets: Where each person's begin, shape (n_people + 1,).
        row: Whose.
        length: Rows of a stretch.
    """
    begin, end = int(offsets[row]), int(offsets[row + 1])
    if end - begin < length:
        none = np.empty((0, length), np.int64)
        return none, none
    mixed = np.zeros(len(items) - length + 1, np.uint64)
    for place in range(length):
        part = items[place : len(items) - length + 1 + place].astype(np.uint64)
        mixed = mixed * np.uint64(6364136223846793005) + part + np.uint64(1442695040888963407)
    others = np.ones(len(mixed), bool)  # no stretch goes from one person to the next
    for border in offsets[1:-1].tolist():
        others[max(0, border - length + 1) : border] = False
    others[begin : end - length + 1] = False
    places = np.arange(begin, end - length + 1)
    shared = np.isin(mixed[places], mixed[others])
    found = items[places[:, None] + np.arange(length)].astype(np.int64)
    steps = np.diff(found, axis=1)
    counted = (np.abs(steps) == 1).all(axis=1) & (steps == steps[:, :1]).all(axis=1)
    different = np.array([len(set(one)) >= 3 for one in found.tolist()], bool)
    telling = different & ~counted
    return found[telling & ~shared], found[telling & shared]
