"""The item table of a generation: written while items pass on their way into the index, read through a memory map."""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_indexes.sparse import clean_sparse
from molar_indexes.tensors import TYPES, assemble, mapped
from molar_retrieval import columns
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.index import IndexItem, IndexSpec, SparseVector
from molar_retrieval.ranking.answer import Spans
from molar_retrieval.ranking.evidence import Origins
from molar_retrieval.ranking.table import ItemTable

_MAP = "map."
_KINDS = {
    "dense": "F32",
    "content": "F32",
    "partners.starts": "I64",
    "partners.items": "I32",
    "partners.values": "F32",
    "partners.support": "I32",
}


def written(
    path: Path,
    spec: IndexSpec,
    items: Iterable[IndexItem],
    support: npt.NDArray[np.integer] | None = None,
    maps: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Iterator[IndexItem]:
    """The same items, one by one; once they are through, the table is in ``path``.

    Rows that no item has, and vectors that an item lacks, are zeros.

    Args:
        path: The file to be.
        spec: Of the items.
        items: In ascending order of rows.
        support: How many people had both items of each partner weight, by dimension, then by item; None: nobody knows.
        maps: See :class:`molar_retrieval.ranking.evidence.Origins`.

    Raises:
        DataError: If a sparse vector is damaged.
        ValueError: If there are more or fewer weights than ``support`` is of.
    """
    dims = {"dense": spec.dims[columns.ALIGNED], "content": spec.dims.get(columns.CONTENT, 0)}
    raw = {name: path.with_name(f"{path.name}.{number}") for number, name in enumerate(_KINDS)}
    count, entries = 0, _Sparse()
    with ExitStack() as stack:
        files = {name: stack.enter_context(raw[name].open("wb")) for name in dims}
        for item in items:
            dense = item.vectors.get(columns.ALIGNED) or item.vectors.get(columns.NEWCOMERS)
            vectors = {"dense": dense, "content": item.vectors.get(columns.CONTENT)}
            for name, dim in dims.items():
                rows = np.zeros((max(1, item.row - count + 1), dim), TYPES[_KINDS[name]])  # the index checks the order
                rows[-1] = vectors[name] or 0
                files[name].write(rows.tobytes())
            if columns.PARTNERS in item.sparse:
                entries.add(item.row, clean_sparse(f"item {item.item_id!r}", item.sparse[columns.PARTNERS]))
            count = item.row + 1
            yield item
    shapes: dict[str, tuple[int, ...]] = {name: (count, dim) for name, dim in dims.items()}
    arrays = entries.by_dimension()
    known = np.zeros(len(arrays["partners.items"]), np.int32) if support is None else support
    if known.shape != arrays["partners.items"].shape:
        raise ValueError(f"support of {len(known)} weights was given for {len(arrays['partners.items'])}")
    for name, values in {**arrays, "partners.support": known}.items():
        raw[name].write_bytes(values.astype(TYPES[_KINDS[name]]).tobytes())
        shapes[name] = values.shape
    files_of = {name: (raw[name], kind, shapes[name]) for name, kind in _KINDS.items()}
    for part, matrix in (maps or {}).items():
        file = path.with_name(f"{path.name}.map-{part}")
        file.write_bytes(np.ascontiguousarray(matrix, "<f4").tobytes())
        files_of[_MAP + part] = (file, "F32", matrix.shape)
    assemble(path, files_of)


class _Sparse:
    """Sparse vectors of items, on their way to being sorted by dimension."""

    def __init__(self) -> None:
        self._items, self._dimensions, self._values = array("i"), array("i"), array("f")

    def add(self, row: int, vector: SparseVector) -> None:
        self._items.extend([row] * len(vector.indices))
        self._dimensions.extend(vector.indices)
        self._values.extend(vector.values)

    def by_dimension(self) -> dict[str, npt.NDArray[Any]]:
        dimensions = np.array(self._dimensions, np.int32)
        order = np.argsort(dimensions, kind="stable")
        counts = np.bincount(dimensions) if len(dimensions) else np.zeros(0, np.int64)
        return {
            "partners.starts": np.concatenate([[0], np.cumsum(counts)]),
            "partners.items": np.array(self._items, np.int32)[order],
            "partners.values": np.array(self._values, np.float32)[order],
        }


def open_table(path: Path, parts: Spans, sparse_parts: Spans, origins: Mapping[str, Any]) -> tuple[ItemTable, Origins]:
    """Open what :func:`written` left.

    Returns:
        The table, and how its vectors came about as ``origins`` describe it.

    Raises:
        StaleArtefactError: If the file is missing or damaged.
    """
    try:
        tensors = mapped(path)
        maps = {name.removeprefix(_MAP): array for name, array in tensors.items() if name.startswith(_MAP)}
        return ItemTable.from_tensors(tensors, parts, sparse_parts), Origins.of(origins, maps)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StaleArtefactError(
            f"the item table {path} cannot be opened: {error}", "run `molar align` to publish a new generation"
        ) from error
