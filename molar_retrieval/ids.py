"""Ids are strings outside and dense row numbers inside, which never leave their artefact; a map stands between."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval import fingerprint
from molar_retrieval.errors import DataError


class IdMap:
    """A frozen, ordered set of string ids: id → row and row → id; a DataError names one that occurs twice."""

    def __init__(self, ids: Iterable[str] | pa.Array | pa.ChunkedArray) -> None:
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        array = ids if isinstance(ids, pa.Array) else pa.array(list(ids), pa.large_string())
        self._ids: pa.Array = array.cast(pa.large_string())
        if self._ids.null_count:
            raise DataError("an id is missing", "give every row an id")
        if pc.count_distinct(self._ids).as_py() != len(self._ids):
            counts = pc.value_counts(self._ids)
            twice = counts.filter(pc.greater(counts.field("counts"), 1))[0].as_py()["values"]
            raise DataError(f"the id {twice!r} occurs more than once", "make the ids unique")

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item: str) -> bool:
        return item in self._rows

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
        return fingerprint.of_bytes(id_.encode() for id_ in self._ids.to_pylist())

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self._ids.to_pylist())}

    def row(self, id_: str) -> int | None:
        """The row of one id, or None where it is unknown."""
        return self._rows.get(id_)

    def rows(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """The row of each id, -1 for an unknown or missing one (shape: as many as ids)."""
        values = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.large_string())
        found = pc.index_in(values.cast(pa.large_string()), value_set=self._ids)
        filled = pc.fill_null(found, -1)
        if isinstance(filled, pa.ChunkedArray):
            filled = filled.combine_chunks()
        return np.asarray(filled, dtype=np.int32)

    def id(self, row: int) -> str:
        """The id of one row."""
        return str(self._ids[row].as_py())

    def ids(self, rows: Iterable[int] | npt.NDArray[np.integer]) -> list[str]:
        """The ids of several rows, in their order."""
        return list(self._ids.take(pa.array(np.asarray(list(rows), dtype=np.int64))).to_pylist())
