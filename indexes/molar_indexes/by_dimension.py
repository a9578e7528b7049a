"""The numbers of all items' sparse vectors brought into the order of their dimensions, however many there are.

They come item by item. So many at a time are sorted and written as a run into a file; in the end the runs are read side
by side, some dimensions at a time (an external merge sort), so that memory depends on neither the number of items nor
that of their partners.
"""

from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.workspace.tensors import TensorsWriter

_RUN = 1 << 22
"""Numbers of a run, and about so many are brought together at a time: 12 bytes each, and 30 more while sorted."""

Array = npt.NDArray[Any]
_Run = tuple[Array, Array, Array]  # dimensions, rows of items, values: by dimension, then by item


class ByDimension:
    """Takes numbers by item and gives them by dimension; ``spool`` is an empty file for those that are too many."""

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool = spool
        self._waiting: list[_Run] = []
        self._count = 0  # of those that wait
        self._lengths: list[int] = []  # of the runs in the file
        self._of = np.zeros(0, np.int64)  # how many numbers each dimension has

    def add(self, items: Array, dimensions: Array, values: Array) -> None:
        """Take numbers: rows of items, ascending from call to call, dimensions and values, all of one length."""
        self._waiting.append((dimensions.astype(np.int32), items.astype(np.int32), values))
        self._count += len(values)
        if self._count >= _RUN:
            self._spill()

    def append_to(self, tensors: TensorsWriter) -> int:
        """Append the tensors ``partners.starts``, ``.items`` and ``.values``; returns how many numbers there are."""
        last = self._sorted()
        starts = np.concatenate([[0], np.cumsum(self._of)])
        tensors.append("partners.starts", starts)
        for kind, nothing in (("items", np.zeros(0, np.int32)), ("values", np.zeros(0, np.float32))):
            tensors.append(f"partners.{kind}", nothing)
        runs = [*self._runs(), last]
        for first, end in _spans(starts):
            _, items, values = _merged([_cut(run, first, end) for run in runs])
            tensors.append("partners.items", items)
            tensors.append("partners.values", values)
        return int(starts[-1])

    def _spill(self) -> None:
        run = self._sorted()
        for numbers in run:
            self._spool.write(numbers.data)
        self._lengths.append(len(run[0]))

    def _sorted(self) -> _Run:
        """Those that wait, which do so no more; they are counted."""
        waiting, self._waiting, self._count = self._waiting, [], 0
        run = _merged(waiting)
        own = np.bincount(run[0], minlength=len(self._of))
        own[: len(self._of)] += self._of
        self._of = own
        return run

    def _runs(self) -> Iterator[_Run]:
        self._spool.flush()
        place = 0
        for length in self._lengths:
            dimensions, items, values = (
                np.asarray(np.memmap(self._spool, kind, "r", place + n * 4 * length, (length,)))
                for n, kind in enumerate((np.int32, np.int32, np.float32))
            )
            yield dimensions, items, values
            place += 12 * length


def _merged(runs: list[_Run]) -> _Run:
    """One run of several, which hold items in ascending order."""
    if not runs:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
    dimensions, items, values = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    order = np.argsort(dimensions, kind="stable")
    return dimensions[order], items[order], values[order]


def _cut(run: _Run, first: int, end: int) -> _Run:
    """The numbers of some dimensions."""
    begin, stop = np.searchsorted(run[0], [first, end])
    return run[0][begin:stop], run[1][begin:stop], run[2][begin:stop]


def _spans(starts: Array) -> Iterator[tuple[int, int]]:
    """Ranges of dimensions with about :data:`_RUN` numbers each; a dimension with more of them is one by itself."""
    first, width = 0, len(starts) - 1
    while first < width:
        end = max(first + 1, int(np.searchsorted(starts, starts[first] + _RUN, side="right")) - 1)
        yield first, end
        first = end
