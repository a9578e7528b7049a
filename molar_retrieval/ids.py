"""Where each of many different strings is: one hash table in two arrays, made once, asked for a million at a time."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.errors import DataError
from molar_retrieval.workspace import fingerprint

Hashes = npt.NDArray[np.uint64]

_BLOCK = 1 << 16  # strings that are hashed or looked up at a time
_WORD = 8  # bytes
_OF_WORD = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], np.uint64)  # masks of so many bytes


class IdTable:
    """From strings to their places by 64-bit hashes, sorted, and the place of each: 12 bytes a string beside them.

    A hash only says where to look, strings themselves are compared. The hashes begin with a number drawn for each
    table: nobody can choose ids that fall together, and where two do by chance, another number is drawn.

    Attributes:
        repeated: Whether a string comes twice; such a table finds one of the two.
    """

    def __init__(self, ids: pa.LargeStringArray) -> None:
        self._ids = ids
        self.repeated, fallen_together = False, True
        while fallen_together:
            self._seed = secrets.randbits(64)
            hashes = np.concatenate([np.zeros(0, np.uint64), *(_hashes(part, self._seed) for part in _parts(ids))])
            order = np.argsort(hashes)
            self._places, self._hashes = order.astype(np.int32), hashes[order]
            first = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
            same = pc.equal(*(ids.take(pa.array(self._places[first + after])) for after in (0, 1)))
            self.repeated = bool(pc.any(same, min_count=0).as_py())
            fallen_together = len(first) > 0 and not self.repeated

    def places(self, ids: pa.LargeStringArray) -> npt.NDArray[np.int32]:
        """The place of each string, -1 for an unknown or missing one; shape (n,)."""
        found = np.full(len(ids), -1, np.int32)
        for begin, part in enumerate(_parts(ids)) if len(self._ids) else ():
            found[begin * _BLOCK : begin * _BLOCK + len(part)] = self._places_of(part)
        return found

    def _places_of(self, ids: pa.LargeStringArray) -> npt.NDArray[np.int32]:
        wanted = _hashes(ids, self._seed)
        order = np.argsort(wanted)  # neighbours are looked for in the same memory
        at = np.empty(len(ids), np.intp)
        at[order] = np.searchsorted(self._hashes, wanted[order])
        found: npt.NDArray[np.int32] = self._places[np.minimum(at, len(self._hashes) - 1)]
        same = pc.fill_null(pc.equal(self._ids.take(pa.array(found)), ids), False)
        found[~np.asarray(same)] = -1
        return found


def _parts(ids: pa.LargeStringArray) -> Iterator[pa.LargeStringArray]:
    return (ids.slice(begin, _BLOCK) for begin in range(0, len(ids), _BLOCK))


def _hashes(ids: pa.LargeStringArray, seed: int) -> Hashes:
    """A hash of each string's bytes, eight at a time, beginning with a seed; of a missing one any."""
    _, borders, data = ids.buffers()
    offsets = np.frombuffer(borders, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    start, length = offsets[:-1], np.diff(offsets)
    if data is None or data.size < _WORD:
        data = pa.py_buffer((b"" if data is None else data.to_pybytes()).ljust(_WORD, b"\0"))
    last = data.size - _WORD
    words = np.ndarray(last + 1, np.dtype("<u8"), data, strides=(1,))  # one begins at every byte
    state = _mixed(length.astype(np.uint64) ^ np.uint64(seed))
    for done in range(0, int(length.max(initial=0)), _WORD):
        more = np.flatnonzero(length > done)
        begin = start[more] + done
        at = np.minimum(begin, last)
        word = words[at] >> ((begin - at) * 8).astype(np.uint64)
        word &= _OF_WORD[np.minimum(length[more] - done, _WORD)]
        state[more] = _mixed(state[more] ^ word)
    return state


def _mixed(state: Hashes) -> Hashes:
    """Every bit of it depends on every bit (the finaliser of MurmurHash3, Appleby 2011)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        state ^= state >> np.uint64(33)
        state *= np.uint64(factor)
    state ^= state >> np.uint64(33)
    return state


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
