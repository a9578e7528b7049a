"""The exact index: NumPy, a full scan, nothing approximate. The oracle for the others."""

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from molar_indexes.records import ITEM_ID, batches, check_name, checked_query
from molar_indexes.tensors import assemble, mapped
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.expressions import Expression, matches
from molar_retrieval.index import Hit, IndexItem, IndexSpec, Vector
from molar_retrieval.progress import Progress

_VECTORS = "vectors.safetensors"
_ITEMS = "items.jsonl"
_CHUNK = 16_384


def build(folder: Path, spec: IndexSpec, items: Iterable[IndexItem], progress: Progress) -> None:
    """Write the vectors (one safetensors file) and the payloads (JSON lines) into ``folder``.

    Raises:
        DataError: If an item does not fit the spec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw = {name: (folder / f"{n}.f32.partial", folder / f"{n}.i64.partial") for n, name in enumerate(spec.dims)}
    counts = dict.fromkeys(spec.dims, 0)
    progress.start("index", None)
    with ExitStack() as stack:
        files = {n: (stack.enter_context(v.open("wb")), stack.enter_context(s.open("wb"))) for n, (v, s) in raw.items()}
        lines = stack.enter_context((folder / _ITEMS).open("w", encoding="utf-8"))
        slot = 0
        for batch in batches(spec, items):
            for item in batch:
                lines.write(json.dumps([item.row, item.item_id, item.payload], ensure_ascii=False) + "\n")
                for name, vector in item.vectors.items():
                    _append(files[name], vector, slot)
                    counts[name] += 1
                slot += 1
            progress.advance(len(batch))
    parts: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
    for name, (vectors, slots) in raw.items():
        parts[f"vectors/{name}"] = (vectors, "F32", (counts[name], spec.dims[name]))
        parts[f"slots/{name}"] = (slots, "I64", (counts[name],))
    assemble(folder / _VECTORS, parts)
    progress.finish()


def _append(files: tuple[BinaryIO, BinaryIO], vector: Vector, slot: int) -> None:
    files[0].write(np.asarray(vector, "<f4").tobytes())
    files[1].write(slot.to_bytes(8, "little"))


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
            self._slots = {name: np.asarray(tensors[f"slots/{name}"]) for name in spec.dims}
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

    def __len__(self) -> int:
        return len(self._items)

    def search(
        self,
        name: str,
        query: Vector,
        k: int,
        *,
        exclude: Iterable[int] = (),
        where: Expression | None = None,
        vectors: Sequence[str] = (),
    ) -> list[Hit]:
        """The ``k`` items with the largest dot product, best first, equal scores by row."""
        values = checked_query(self._spec, name, query, k)
        for other in vectors:
            check_name(self._spec, other)
        scores, slots = self._scores(name, values), self._slots[name]
        hidden = [self._slot_of_row[row] for row in exclude if row in self._slot_of_row]
        keep = ~np.isin(slots, np.array(hidden, dtype=np.int64))
        if where is not None:
            keep &= np.fromiter((self._fulfils(slot, where) for slot in slots.tolist()), bool, len(slots))
        scores, slots = scores[keep], slots[keep]
        order = np.argsort(-scores, kind="stable")[:k]
        best = zip(slots[order].tolist(), scores[order].tolist(), strict=True)
        return [self._hit(slot, score, vectors) for slot, score in best]

    def fetch(self, rows: Sequence[int], *, vectors: Sequence[str] = ()) -> list[Hit]:
        """The stored items at ``rows``, in that order; unknown rows are left out."""
        for name in vectors:
            check_name(self._spec, name)
        slots = [self._slot_of_row[row] for row in rows if row in self._slot_of_row]
        return [self._hit(slot, 0.0, vectors) for slot in slots]

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, in their order; None for an unknown one."""
        return [self._row_of_id.get(item_id) for item_id in item_ids]

    def close(self) -> None:
        """Release files; the index cannot be used afterwards."""
        self._vectors.clear()
        self._slots.clear()

    def _scores(self, name: str, query: Sequence[float]) -> npt.NDArray[np.float32]:
        """Dot products, summed in float64: BLAS in float32 may score equal rows differently."""
        matrix, wide = self._vectors[name], np.asarray(query, np.float32).astype(np.float64)
        scores = np.empty(len(matrix), np.float32)
        for low in range(0, len(matrix), _CHUNK):
            scores[low : low + _CHUNK] = matrix[low : low + _CHUNK].astype(np.float64) @ wide
        return scores

    def _fulfils(self, slot: int, where: Expression) -> bool:
        _, item_id, payload = self._items[slot]
        return matches(where, {ITEM_ID: item_id, **payload})

    def _hit(self, slot: int, score: float, vectors: Sequence[str]) -> Hit:
        row, item_id, payload = self._items[slot]
        found: dict[str, Vector] = {}
        for name in vectors:
            at = int(np.searchsorted(self._slots[name], slot))
            if at < len(self._slots[name]) and self._slots[name][at] == slot:
                found[name] = self._vectors[name][at].tolist()
        return Hit(row, item_id, score, payload, found)
