"""An item's attributes as numbers, without a vocabulary: each value of each column has a place and a sign by its hash.

Feature hashing (Weinberger et al. 2009, arXiv 0902.2206) keeps dot products in expectation, and an item that comes
tomorrow with a value never seen before has its features at once.
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.catalog.values import as_written, doubles, is_list

WIDTH = 1024
_BATCH = 65_536


def hashed_attributes(catalogue: Catalogue) -> csr_matrix:
    """The attributes of all items, shape (n_items, 1024), float32.

    A column weighs the same however many values an item has of it, as does each of them; case does not matter.

    Args:
        catalogue: Read are the payload fields of its attributes.
    """
    columns = catalogue.attribute_fields
    rows, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    values: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)]
    begin = 0
    for batch in catalogue.batches(columns, _BATCH) if columns else ():
        for name, (parents, elements) in zip(columns, map(_elements, batch.columns), strict=True):
            encoded = elements.dictionary_encode()
            words = [f"{name}\0{value.casefold()}".encode() for value in encoded.dictionary.to_pylist()]
            hashes = np.frombuffer(b"".join(blake2b(word, digest_size=8).digest() for word in words), "<u8")
            chosen = hashes[np.asarray(encoded.indices)] if len(hashes) else hashes
            rows.append(begin + parents)
            places.append((chosen % np.uint64(WIDTH)).astype(np.int64))
            sign = np.where(chosen >> np.uint64(63), np.float32(1), np.float32(-1))
            length = np.sqrt(np.bincount(parents, minlength=len(batch)))[parents]
            values.append((sign / length).astype(np.float32))
        begin += len(batch)
    coordinates = np.concatenate(rows), np.concatenate(places)
    return csr_matrix((np.concatenate(values), coordinates), shape=(len(catalogue), WIDTH))


def numeric_attributes(catalogue: Catalogue) -> dict[str, npt.NDArray[np.float64]]:
    """The numbers of all items by field, NaN where there is none, each of shape (n_items,).

    Args:
        catalogue: Read are its fields of integers and floats; of several values an item's mean counts.
    """
    fields = [name for name, kind in catalogue.fields.items() if kind in ("integer", "float")]
    found = {name: np.full(len(catalogue), np.nan) for name in fields}
    begin = 0
    for batch in catalogue.batches(fields, _BATCH) if fields else ():
        for name, column in zip(fields, batch.columns, strict=True):
            parents, values = _flat(column)
            present = np.asarray(pc.is_valid(values))
            numbers = np.asarray(doubles(values.filter(present)))
            rows = parents[present]
            counts = np.bincount(rows, minlength=len(batch))
            sums = np.bincount(rows, numbers, minlength=len(batch))
            own = slice(begin, begin + len(batch))
            found[name][own] = np.divide(sums, counts, out=found[name][own], where=counts > 0)
        begin += len(batch)
    return found


def _elements(array: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The row of each value, and the values as words."""
    parents, flat = _flat(array)
    written = as_written(flat)
    present = pc.is_valid(written)
    return parents[np.asarray(present)], written.filter(present)


def _flat(array: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The row of each value, and the values, missing ones included."""
    if is_list(array.type):
        return np.asarray(pc.list_parent_indices(array), np.int64), pc.list_flatten(array)
    return np.arange(len(array), dtype=np.int64), array
