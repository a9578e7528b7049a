"""The item store of a generation: written while items pass on their way into the index, read through a memory map.

The numbers of all items' sparse vectors brought into the order of their dimensions, however many there are.

They come item by item. So many at a time are sorted and written as a run into a file; in the end the runs are read side
by side, some dimensions at a time (an external merge sort), so that memory depends on neither the number of items nor
that of their neighbors.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molar_indexes.records import held, joined
from molar_retrieval import columns
from molar_retrieval.data.availability import ALWAYS, Availability
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ranking.explanations import Origins
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, Spans, SparseVector
from molar_retrieval.ranking.item_store import ItemStore, LowSupportItems
from molar_retrieval.ranking.objectives import NEXT_ITEM
from molar_retrieval.ranking.reranker import Reranker
from molar_retrieval.workspace.files import link_or_copy
from molar_retrieval.workspace.tensors import Array, TensorsWriter, mapped, under

if TYPE_CHECKING:
    from molar_indexes.query_maps import QueryMaps

_RUN = 1 << 22
"""Numbers of a run, and about so many are brought together at a time: 12 bytes each, and 30 more while sorted."""
_Run = tuple[Array, Array, Array]  # dimensions, rows of items, values: by dimension, then by item
_MAP, _RERANK, _QUERY, _SHOWN_FROM = "map.", "rerank.", "query.", "shown_from"
_BLOCK = 1024  # rows that are appended together


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
        """Append the tensors ``item_item.starts``, ``.items`` and ``.values``; returns how many numbers there are."""
        last = self._sorted()
        starts = np.concatenate([[0], np.cumsum(self._of)])
        tensors.append("item_item.starts", starts)
        for kind, nothing in (("items", np.zeros(0, np.int32)), ("values", np.zeros(0, np.float32))):
            tensors.append(f"item_item.{kind}", nothing)
        runs = [*self._runs(), last]
        for first, end in _spans(starts):
            _, items, values = _merged([_cut(run, first, end) for run in runs])
            tensors.append("item_item.items", items)
            tensors.append("item_item.values", values)
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


@dataclass(frozen=True, eq=False)
class Extras:
    """What a table holds beside the items' own vectors.

    ``support`` says how many people had both items of each item-item weight, by dimension, then by item; None: nobody
    knows.
    """

    origins: Origins = field(default_factory=Origins)  # how the vectors came about, for reasons
    support: npt.NDArray[np.integer] | None = None
    factors: npt.NDArray[np.float32] | None = None  # of ALS, shape (n, c); 0 where an item has none
    numbers: npt.NDArray[np.float32] | None = None  # numeric attributes, shape (n, m)
    reranker: Reranker | None = None
    queries: "QueryMaps | None" = None  # how texts and photos are brought into the items' spaces
    availability: Availability = field(default_factory=Availability)  # which fields say from when an item may be shown
    whitening: npt.NDArray[np.float32] | None = None  # of users, where there are vectors ``whitened``, shape (d, d)
    low_support: LowSupportItems | None = None  # items with few interactions, as they are ranked among cold-start items

    def described(self) -> dict[str, Any]:
        """All that is no array, as facts of a manifest."""
        reranker = None if self.reranker is None else self.reranker.described()
        queries = None if self.queries is None else self.queries.described()
        known = {"origins": self.origins.described(), "reranker": reranker, "queries": queries}
        return known | {"availability": asdict(self.availability)}

    def tensors(self, items: int, entries: int) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name, for so many items and partner weights; ValueError if they are of other numbers."""
        support = np.zeros(entries, np.int32) if self.support is None else self.support.astype(np.int32, copy=False)
        nothing = np.zeros((items, 0), np.float32)
        factors, numbers = (nothing if one is None else one for one in (self.factors, self.numbers))
        if len(support) != entries or {len(factors), len(numbers)} != {items}:
            raise ValueError(f"the table has {items} items and {entries} partner weights, the extras other numbers")
        found: dict[str, npt.NDArray[Any]] = {"item_item.support": support, columns.ALS: factors, "numbers": numbers}
        found |= {_MAP + part: matrix for part, matrix in self.origins.maps.items()}
        if self.reranker is not None:
            found |= {_RERANK + name: array for name, array in self.reranker.to_tensors().items()}
        if self.low_support is not None:
            found |= {"emerging.rows": self.low_support.rows, "emerging.dense": self.low_support.dense}
        if self.whitening is not None:
            found["whitening"] = self.whitening
        if self.queries is not None:
            found |= {_QUERY + name: array for name, array in self.queries.to_tensors().items()}
        return found


@dataclass(frozen=True, eq=False)
class OpenItemStore:
    """A table, and what it holds beside."""

    items: ItemStore
    origins: Origins
    reranker: Reranker | None
    ids: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]  # joined, and the end of each, with a 0 before
    shown_from: npt.NDArray[np.int64] | None  # of each item, in microseconds since 1970; None: all are always shown
    availability: Availability
    _asked: tuple[Mapping[str, Any], Mapping[str, npt.NDArray[Any]]] | None

    def unavailable(self, moment: int) -> frozenset[int]:
        """Rows of the items that may not be shown at a moment, in microseconds since 1970."""
        if self.shown_from is None:
            return frozenset()
        return self._shown_after(int(np.searchsorted(self._moments, moment, side="right")))

    @cached_property
    def _moments(self) -> npt.NDArray[np.int64]:
        """When something changes about what may be shown, ascending."""
        return np.unique(self.shown_from if self.shown_from is not None else np.zeros(0, np.int64))

    @cached_property
    def _shown_after(self) -> Callable[[int], frozenset[int]]:
        """The rows that are shown from the moment with this number, or a later one; the last answer is kept."""
        shown_from = self.shown_from if self.shown_from is not None else np.zeros(0, np.int64)

        @lru_cache(maxsize=1)
        def rows(number: int) -> frozenset[int]:
            later = self._moments[number:]
            return frozenset(np.flatnonzero(shown_from >= later[0]).tolist() if len(later) else ())

        return rows

    @cached_property
    def queries(self) -> "QueryMaps | None":
        """How texts and photos are brought into the items' spaces, or None."""
        if self._asked is None:
            return None

        from molar_indexes.query_maps import QueryMaps  # brings SciPy and Pillow

        return QueryMaps.of(*self._asked)

    def item_id(self, row: int) -> str:
        """The id of an item."""
        text, ends = self.ids
        return text[ends[row] : ends[row + 1]].tobytes().decode()

    def item_ids(self) -> list[str]:
        """The ids of all items; a row that no item has gives an empty one."""
        return [self.item_id(row) for row in range(len(self.ids[1]) - 1)]


def written(path: Path, spec: IndexSpec, items: Iterable[IndexItem], extras: Extras) -> Iterator[IndexItem]:
    """The items as an index takes them, one by one; once they are through, the table is in ``path``.

    Rows that no item has, and vectors that an item lacks, are zeros.

    Raises:
        DataError: If a sparse vector is damaged.
        ValueError: If the extras are of other numbers of items or partner weights.
    """
    with TensorsWriter(path) as tensors, TemporaryFile(dir=path.parent) as spool:
        rows = _ItemRows(tensors, spec, extras.availability, ByDimension(spool))
        for item in items:
            rows.add(item)
            yield held(spec, item)
        entries = rows.finish()
        for name, values in extras.tensors(rows.count, entries).items():
            tensors.append(name, values)


class _ItemRows:
    """What a table has of each item, appended to it in blocks."""

    def __init__(
        self, tensors: TensorsWriter, spec: IndexSpec, availability: Availability, entries: ByDimension
    ) -> None:
        self._tensors, self._availability = tensors, availability
        dims = {"dense": spec.dims[columns.ALIGNED], columns.CONTENT: spec.dims.get(columns.CONTENT, 0)}
        self._nothing = {name: np.zeros(dim, np.float32) for name, dim in dims.items()}
        self._dense: dict[str, list[Any]] = {name: [] for name in dims}
        self._sparse: list[tuple[IndexItem, SparseVector]] = []
        self._entries = entries
        self._ids, self._ends, self._shown_from = bytearray(), array("q", [0]), array("q")
        self._kinds = {"known": (columns.ALIGNED, bytearray()), "cold_start": (columns.COLD_START, bytearray())}
        self.count = 0  # of the rows so far
        self._append()

    def add(self, item: IndexItem) -> None:
        """Take the next item; the index checks the order."""
        gap = max(0, item.row - self.count)
        dense = item.vectors.get(columns.ALIGNED, item.vectors.get(columns.COLD_START))
        vectors = {"dense": dense, columns.CONTENT: item.vectors.get(columns.CONTENT)}
        for name, rows in self._dense.items():
            nothing = self._nothing[name]
            rows += [nothing] * gap + [nothing if (vector := vectors[name]) is None else vector]
        if columns.ITEM_WEIGHTS in item.sparse:
            self._sparse.append((item, item.sparse[columns.ITEM_WEIGHTS]))
        self._shown_from.extend([ALWAYS] * gap)
        self._shown_from.append(self._availability.shown_from(item.payload))
        self._ids += item.item_id.encode()
        self._ends.extend([self._ends[-1]] * gap)
        self._ends.append(len(self._ids))
        for name, marks in self._kinds.values():
            marks += bytes(gap) + bytes([name in item.vectors])
        self.count = item.row + 1
        if len(self._dense["dense"]) >= _BLOCK:
            self._append()

    def finish(self) -> int:
        """Append all that is left; returns how many partner weights there are."""
        self._append()
        entries = self._entries.append_to(self._tensors)
        arrays: dict[str, npt.NDArray[Any]] = {"ids.bytes": np.frombuffer(self._ids, np.uint8)}
        arrays |= {"ids.ends": np.array(self._ends, np.int64)}
        arrays |= {name: np.frombuffer(marks, np.uint8) for name, (_, marks) in self._kinds.items()}
        if any(self._shown_from):
            arrays[_SHOWN_FROM] = np.array(self._shown_from, np.int64)
        for name, values in arrays.items():
            self._tensors.append(name, values)
        return entries

    def _append(self) -> None:
        for name, rows in self._dense.items():
            self._tensors.append(name, np.array(rows, np.float32).reshape(len(rows), len(self._nothing[name])))
            rows.clear()
        items = [item for item, _ in self._sparse]
        vectors = [own for _, own in self._sparse]
        sizes, dimensions, values = joined(vectors, lambda n: f"item {items[n].item_id!r}")
        self._entries.add(np.repeat([item.row for item in items], sizes), dimensions, values)
        self._sparse.clear()


def restated(path: Path, former: Path, numbers: Array | None, shown_from: Mapping[int, int]) -> None:
    """The table of ``former`` in ``path``, with these numbers, shape (n, m), and, by row, other moments of some items.

    Where both are what they were it is shared, as far as the file system has links.
    """
    before = mapped(former)
    moments = np.array(before.get(_SHOWN_FROM, np.full(len(before["ids.ends"]) - 1, ALWAYS, np.int64)))
    for row, moment in shown_from.items():
        moments[row] = moment
    anew = {"numbers": before["numbers"] if numbers is None else np.asarray(numbers)} | (
        {_SHOWN_FROM: moments} if moments.any() else {}
    )
    kept = {name: values for name, values in before.items() if name not in ("numbers", _SHOWN_FROM)}
    if (kept | anew).keys() == before.keys() and all(np.array_equal(before[name], anew[name]) for name in anew):
        link_or_copy(former, path)
        return
    with TensorsWriter(path) as tensors:
        for name, values in (kept | anew).items():
            tensors.append(name, values)


def open_table(path: Path, parts: Spans, sparse_parts: Spans, described: Mapping[str, Any]) -> OpenItemStore:
    """Open what :func:`written` left, with the spans of :class:`ItemStore` and what :meth:`Extras.described` told.

    Raises:
        StaleArtefactError: If the file is missing or damaged.
    """
    try:
        tensors = mapped(path)
        origins = Origins.of(described.get("origins", {}), under(tensors, _MAP))
        reranker = described.get("reranker")
        second = None if reranker is None else Reranker.of(reranker, under(tensors, _RERANK))
        ids = tensors["ids.bytes"], tensors["ids.ends"]
        asked = described.get("queries")
        queries = None if asked is None else (asked, under(tensors, _QUERY))
        items = ItemStore.from_tensors(tensors, parts, sparse_parts).for_objective(
            described.get("objectives", {}).get(NEXT_ITEM.name, {})
        )
        availability = Availability(**described.get("availability", {}))
        return OpenItemStore(items, origins, second, ids, tensors.get(_SHOWN_FROM), availability, queries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StaleArtefactError(
            f"the item store {path} cannot be opened: {error}", "run `molar align` to publish a new generation"
        ) from error
