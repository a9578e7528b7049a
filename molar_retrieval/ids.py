"""Ids are strings outside and dense row numbers inside, which never leave their artefact; a map stands between."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval import fingerprint
from molar_retrieval.errors import DataError
from molar_retrieval.id_table import IdTable

_AT_ONCE = 1 << 16  # ids that are Python objects at a time


class IdMap:
    """A frozen, ordered set of string ids: id → row and row → id; a DataError names one that occurs twice.

    It takes 20 bytes an id and the id itself.
    """

    def __init__(self, ids: Iterable[str] | pa.Array | pa.ChunkedArray) -> None:
        self._ids: pa.Array = _strings(ids if isinstance(ids, pa.Array | pa.ChunkedArray) else list(ids))
        if self._ids.null_count:
            raise DataError("an id is missing", "give every row an id")
        if self._table.repeated:
            counts = pc.value_counts(self._ids)
            twice = counts.filter(pc.greater(counts.field("counts"), 1))[0].as_py()["values"]
            raise DataError(f"the id {twice!r} occurs more than once", "make the ids unique")

    @classmethod
    def numbered(cls, count: int) -> Self:
        """So many ids that are their rows as decimal numbers."""
        made = cls.__new__(cls)
        made._ids = pa.array(np.arange(count)).cast(pa.large_string())
        return made

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item: str) -> bool:
        return self.row(item) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and bool(self._ids.equals(other._ids))

    __hash__ = None  # type: ignore[assignment]

    @property
    def array(self) -> pa.Array:
        """The ids in row order (Arrow large_string)."""
        return self._ids

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the ids in their order."""
        return fingerprint.of_bytes(self._bytes())

    def _bytes(self) -> Iterator[bytes]:
        for begin in range(0, len(self), _AT_ONCE):
            yield from self._ids.slice(begin, _AT_ONCE).cast(pa.large_binary()).to_pylist()

    @cached_property
    def _table(self) -> IdTable:
        return IdTable(self._ids)

    def row(self, id_: str) -> int | None:
        """The row of one id, or None where it is unknown; many of them at once are asked of :meth:`rows`."""
        row = int(self.rows([id_])[0])
        return None if row < 0 else row

    def rows(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """The row of each id, -1 for an unknown or missing one (shape: as many as ids)."""
        return self._table.places(_strings(ids))

    def id(self, row: int) -> str:
        """The id of one row."""
        return str(self._ids[row].as_py())

    def ids(self, rows: Iterable[int] | npt.NDArray[np.integer]) -> list[str]:
        """The ids of several rows, in their order."""
        return list(self._ids.take(pa.array(np.asarray(list(rows), dtype=np.int64))).to_pylist())


def _strings(ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """One array of Arrow's large_string, as 2 GiB of ids are too many for its string."""
    if not isinstance(ids, pa.Array | pa.ChunkedArray):
        return pa.array(ids, pa.large_string())
    whole = ids.cast(pa.large_string())
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
