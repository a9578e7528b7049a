"""The exact index: NumPy, a full scan, nothing approximate. The oracle for the others."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_indexes.records import ITEM_ID, batches, check_stored, checked_query
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.expressions import Expression, matches
from molar_retrieval.index import IndexItem, IndexSpec, SparseVector, StoredItem, Vector
from molar_retrieval.progress import Progress
from molar_retrieval.tensors import TYPES, assemble, mapped

_VECTORS = "vectors.safetensors"
_ITEMS = "items.jsonl"
_CHUNK = 16_384
_KINDS = {"vectors": "F32", "values": "F32", "indices": "I32", "slots": "I64"}
"""Tensors of a dense vector: its rows and the slots of their items; of a sparse one: numbers, dimensions and slots, by
slot."""


def build(folder: Path, spec: IndexSpec, items: Iterable[IndexItem], progress: Progress) -> None:
    """Write the vectors (one safetensors file) and the payloads (JSON lines) into ``folder``.

    Raises:
        DataError: If an item does not fit the spec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = [f"{kind}/{name}" for name in spec.dims for kind in ("vectors", "slots")]
    tensors += [f"{kind}/{name}" for name in spec.sparse for kind in ("values", "indices", "slots")]
    raw = {tensor: folder / f"{n}.partial" for n, tensor in enumerate(tensors)}
    progress.start("index", None)
    with ExitStack() as stack:
        files = {tensor: stack.enter_context(path.open("wb")) for tensor, path in raw.items()}
        lines = stack.enter_context((folder / _ITEMS).open("w", encoding="utf-8"))
        slot = 0
        for batch in batches(spec, items):
            for item in batch:
                lines.write(json.dumps([item.row, item.item_id, item.payload], ensure_ascii=False) + "\n")
                for tensor, values in _numbers(item, slot):
                    files[tensor].write(np.asarray(values, _dtype(tensor)).tobytes())
                slot += 1
            progress.advance(len(batch))
    parts = {
        tensor: (path, _KINDS[tensor.partition("/")[0]], _shape(path, tensor, spec)) for tensor, path in raw.items()
    }
    assemble(folder / _VECTORS, parts)
    progress.finish()


def _numbers(item: IndexItem, slot: int) -> Iterator[tuple[str, Sequence[float]]]:
    """What an item adds to each tensor."""
    for name, vector in item.vectors.items():
        yield f"vectors/{name}", vector
        yield f"slots/{name}", [slot]
    for name, sparse in item.sparse.items():
        yield f"values/{name}", sparse.values
        yield f"indices/{name}", sparse.indices
        yield f"slots/{name}", [slot] * len(sparse.indices)


def _dtype(tensor: str) -> str:
    return TYPES[_KINDS[tensor.partition("/")[0]]]


def _shape(path: Path, tensor: str, spec: IndexSpec) -> tuple[int, ...]:
    kind, _, name = tensor.partition("/")
    count = path.stat().st_size // np.dtype(_dtype(tensor)).itemsize
    return (count // spec.dims[name], spec.dims[name]) if kind == "vectors" else (count,)


def open_folder(folder: Path, spec: IndexSpec) -> "ExactIndex":
    """Open what :func:`build` left in ``folder``."""
    return ExactIndex(folder, spec)


class ExactIndex:
    """An index that scans everything; see :class:`molar_retrieval.index.Index`.

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
        """Rows and scores of the best; see :class:`molar_retrieval.index.Index`."""
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
