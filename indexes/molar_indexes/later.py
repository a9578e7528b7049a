"""An index that is opened when it is first searched or read: lists by a scan of all items do without."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Self

from molar_indexes.generations import open_own_index
from molar_retrieval.ranking.filters import Expression
from molar_retrieval.ranking.index_protocol import Index, IndexSpec, Search, SparseVector, StoredItem, Vector


class LaterIndex(Index):
    """What ``made`` opens, at the first question that its ``spec`` does not answer; an error comes up there."""

    def __init__(self, spec: IndexSpec, made: Callable[[], Index]) -> None:
        self._spec, self._made, self._lock = spec, made, Lock()
        self._opened: Index | None = None

    @property
    def _index(self) -> Index:
        with self._lock:
            if self._opened is None:
                self._opened = self._made()
            return self._opened

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self._spec

    @property
    def graphs(self) -> Collection[str]:
        """See :class:`molar_retrieval.ranking.index_protocol.Index`, as for all that follows."""
        return self._index.graphs

    def searching(self, efs: Mapping[str, int]) -> Self:
        """The same index with other candidate lists."""
        spec = replace(self._spec, efs={**self._spec.efs, **efs})
        return type(self)(spec, lambda: self._index.searching(efs))

    def __len__(self) -> int:
        return len(self._index)

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the best."""
        return self._index.top(name, query, k, exclude=exclude, where=where)

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[list[tuple[int, float]]]:
        """The answers to several searches."""
        return self._index.tops(searches, exclude=exclude, where=where)

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``."""
        return self._index.fetch(rows, vectors=vectors)

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id."""
        return self._index.rows(item_ids)

    def close(self) -> None:
        """Release files, if it was opened; the index cannot be used afterwards."""
        if self._opened is not None:
            self._opened.close()


def open_when_asked(folder: Path, backend: str, spec: IndexSpec) -> Index:
    """The index in a generation's folder, for :func:`molar_indexes.generations.open_generation`."""
    return LaterIndex(spec, partial(open_own_index, folder, backend, spec))
