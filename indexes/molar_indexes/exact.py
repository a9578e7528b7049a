"""The exact index: NumPy, a full scan, nothing approximate. The oracle for the others."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_indexes.records import ITEM_ID, batches, check_stored, checked_query
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.filters import Expression, matches
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, Search, SparseVector, StoredItem, Vector
from molar_retrieval.workspace.files import link_or_copy
from molar_retrieval.workspace.tensors import TensorsWriter, mapped

_VECTORS = "vectors.safetensors"
_ITEMS = "items.jsonl"
_CHUNK = 16_384
_TYPES = {"values": "<f4", "indices": "<i4", "slots": "<i8"}
"""Tensors of a sparse vector: numbers, dimensions and slots of their items, by slot; a dense one has rows and slots."""


def build(folder: Path, spec: IndexSpec, items: Iterable[IndexItem], progress: Progress) -> None:
    """Write vectors (safetensors) and payloads (JSON lines) into ``folder``; DataError if an item does not fit."""
    folder.mkdir(parents=True, exist_ok=True)
    progress.start("index", None)
    with TensorsWriter(folder / _VECTORS) as tensors, (folder / _ITEMS).open("w", encoding="utf-8") as lines:
        for name in spec.dims:
            _append(tensors, "slots", name, [])
            tensors.append(f"vectors/{name}", np.zeros((0, spec.dims[name]), "<f4"))
        for name in spec.sparse:
            for kind in ("values", "indices", "slots"):
                _append(tensors, kind, name, [])
        slot = 0
        for batch in batches(spec, items):
            for item in batch:
                lines.write(_line(item))
                for name, vector in item.vectors.items():
                    tensors.append(f"vectors/{name}", np.asarray([vector], "<f4"))
                    _append(tensors, "slots", name, [slot])
                for name, sparse in item.sparse.items():
                    _append(tensors, "values", name, sparse.values)
                    _append(tensors, "indices", name, sparse.indices)
                    _append(tensors, "slots", name, [slot] * len(sparse.indices))
                slot += 1
            progress.advance(len(batch))
    progress.finish()


def restate(former: Path, folder: Path, spec: IndexSpec, items: Sequence[StoredItem]) -> None:
    """The index of another folder with other payloads of some items; the vectors are shared where there are links."""
    folder.mkdir(parents=True)
    link_or_copy(former / _VECTORS, folder / _VECTORS)
    anew = {item.row: item for item in items}
    with (former / _ITEMS).open(encoding="utf-8") as before, (folder / _ITEMS).open("w", encoding="utf-8") as lines:
        for line in before:
            item = anew.get(json.loads(line)[0])
            lines.write(line if item is None else _line(item))


def _line(item: IndexItem | StoredItem) -> str:
    return json.dumps([item.row, item.item_id, item.payload], ensure_ascii=False) + "\n"


def _append(tensors: TensorsWriter, kind: str, name: str, numbers: Sequence[float]) -> None:
    tensors.append(f"{kind}/{name}", np.asarray(numbers, _TYPES[kind]))


class ExactIndex:
    """An index that scans everything; see :class:`molar_retrieval.ranking.index_protocol.Index`.

    A slot is an item's place in the files; rows ascend with slots.
    """

    def __init__(self, folder: Path, spec: IndexSpec) -> None:
        self._spec = spec
        try:
            tensors = mapped(folder / _VECTORS)
            self._vectors = {name: tensors[f"vectors/{name}"] for name in spec.dims}
            self._sparse = {name: (tensors[f"indices/{name}"], tensors[f"values/{name}"]) for name in spec.sparse}
            self._slots = {name: np.asarray(tensors[f"slots/{name}"]) for name in [*spec.dims, *spec.sparse]}
            with (folder / _ITEMS).open(encoding="utf-8") as lines:
                self._items: list[tuple[int, str, dict[str, Any]]] = [tuple(json.loads(line)) for line in lines]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StaleArtefactError(
                f"the index in {folder} cannot be opened: {error}", "run `molar align` to publish a new one"
            ) from error
        self._row_of_id = {item_id: row for row, item_id, _ in self._items}
        self._slot_of_row = {row: slot for slot, (row, _, _) in enumerate(self._items)}

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self._spec

    @property
    def graphs(self) -> Collection[str]:
        """None."""
        return ()

    def searching(self, efs: Mapping[str, int]) -> Self:
        """This index: there are no candidates."""
        return self

    def __len__(self) -> int:
        return len(self._items)

    def top(
        self,
        name: str,
        query: Vector | SparseVector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
    ) -> list[tuple[int, float]]:
        """Rows and scores of the best; see :class:`molar_retrieval.ranking.index_protocol.Index`."""
        values = checked_query(self._spec, name, query, k)
        if isinstance(values, SparseVector):
            wide, slots = self._sparse_scores(name, values)
        else:
            wide, slots = self._scores(name, values), self._slots[name]
        scores = wide.astype(np.float32)  # the last digits depend on the order of the additions
        hidden = [self._slot_of_row[row] for row in exclude if row in self._slot_of_row]
        keep = ~np.isin(slots, np.array(hidden, dtype=np.int64))
        if where is not None:
            keep &= np.fromiter((self._fulfils(slot, where) for slot in slots.tolist()), bool, len(slots))
        scores, slots = scores[keep], slots[keep]
        order = np.argsort(-scores, kind="stable")[:k]
        rows = [self._items[slot][0] for slot in slots[order].tolist()]
        return list(zip(rows, scores[order].tolist(), strict=True))

    def tops(
        self, searches: Sequence[Search], *, exclude: Iterable[int] = (), where: Expression | None = None
    ) -> list[list[tuple[int, float]]]:
        """The answers to several searches, one after the other."""
        hidden = list(exclude)
        return [self.top(*search, exclude=hidden, where=where) for search in searches]

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[StoredItem]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        check_stored(self._spec, vectors)
        slots = [self._slot_of_row[row] for row in rows if row in self._slot_of_row]
        return [self._stored(slot, vectors) for slot in slots]

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        return [self._row_of_id.get(item_id) for item_id in item_ids]

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        self._vectors.clear()
        self._sparse.clear()
        self._slots.clear()

    def _scores(self, name: str, query: Sequence[float]) -> npt.NDArray[np.float64]:
        """Dot products, summed in float64: BLAS in float32 may score equal rows differently."""
        matrix, wide = self._vectors[name], np.asarray(query, np.float32).astype(np.float64)
        scores = np.empty(len(matrix))
        for low in range(0, len(matrix), _CHUNK):
            scores[low : low + _CHUNK] = matrix[low : low + _CHUNK].astype(np.float64) @ wide
        return scores

    def _sparse_scores(self, name: str, query: SparseVector) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Dot products of a sparse vector, and the slots of the items that share a dimension with it."""
        indices, values = self._sparse[name]
        if not query.indices:
            return np.zeros(0), np.zeros(0, np.int64)
        wide = np.zeros(1 + max(int(indices.max(initial=0)), query.indices[-1]))
        wide[np.asarray(query.indices)] = np.asarray(query.values, np.float32)
        products = values.astype(np.float64) * wide[indices]
        slots = self._slots[name]
        shared = np.unique(slots[wide[indices] != 0])
        return np.bincount(slots, products, minlength=len(self._items))[shared], shared

    def _fulfils(self, slot: int, where: Expression) -> bool:
        _, item_id, payload = self._items[slot]
        return matches(where, {ITEM_ID: item_id, **payload})

    def _stored(self, slot: int, vectors: Sequence[str]) -> StoredItem:
        row, item_id, payload = self._items[slot]
        dense: dict[str, Vector] = {}
        sparse: dict[str, SparseVector] = {}
        for name in vectors:
            start, stop = np.searchsorted(self._slots[name], [slot, slot + 1])
            if start == stop:
                continue
            if name in self._sparse:
                indices, values = self._sparse[name]
                sparse[name] = SparseVector(indices[start:stop].tolist(), values[start:stop].tolist())
            else:
                dense[name] = self._vectors[name][start].tolist()
        return StoredItem(row, item_id, payload, dense, sparse)


open_folder = ExactIndex  # opens what :func:`build` left in a folder
