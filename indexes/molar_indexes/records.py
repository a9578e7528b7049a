"""What every backend checks and converts in the same way: queries, items on their way in, payloads."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any

from molar_retrieval import columns
from molar_retrieval.errors import DataError, RequestError, suggestion
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, SparseVector, Vector

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from scipy.sparse import csr_matrix

FLOAT32_MAX = 3.4028234663852886e38
_LARGEST_DIMENSION = (1 << 31) - 1
ITEM_ID = "item_id"  # the payload key that holds the id inside an index; filters may use it like any other field
BATCH = 1000


def clean_sparse(owner: str, vector: SparseVector) -> SparseVector:
    """A sparse vector to store, as lists of integers and float32 numbers, without zeros; else as :func:`checked`."""
    indices, values = checked(owner, vector)
    return SparseVector(indices.tolist(), values.tolist())


def checked(owner: str, vector: SparseVector) -> "tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]":
    """Dimensions and numbers of a sparse vector without zeros; ``owner`` is for the message.

    Raises:
        DataError: On dimensions that do not ascend, or a number that is not finite.
    """
    import numpy as np

    indices, values = np.asarray(vector.indices, np.int64), float32(vector.values)
    ascending = len(indices) == len(values) and bool((indices[1:] > indices[:-1]).all())
    within = not len(indices) or 0 <= indices[0] <= indices[-1] <= _LARGEST_DIMENSION
    if not (ascending and within and np.isfinite(values).all()):
        problem = sparse_problem(indices.tolist(), values.tolist())
        raise DataError(f"{owner}: the sparse vector {problem}", "run `molar align` again")
    if values.all():
        return indices, values
    kept = values != 0
    return indices[kept], values[kept]


def joined(
    vectors: Sequence[SparseVector], owner: Callable[[int], str]
) -> "tuple[list[int], npt.NDArray[np.int64], npt.NDArray[np.float32]]":
    """Sparse vectors one after the other, each as of :func:`checked`: how many numbers each has, dimensions, numbers.

    ``owner`` names that of a place, for the message of a DataError.
    """
    import numpy as np

    with np.errstate(over="ignore"):
        kept = [(np.asarray(v.indices, np.int64), np.asarray(v.values, np.float32)) for v in vectors]
    if not _are_clean(kept):
        kept = [checked(owner(place), vector) for place, vector in enumerate(vectors)]
    indices = np.concatenate([np.zeros(0, np.int64), *(own for own, _ in kept)])
    values = np.concatenate([np.zeros(0, np.float32), *(own for _, own in kept)])
    return [len(own) for own, _ in kept], indices, values


def _are_clean(vectors: "Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]") -> bool:
    """Whether all of them are as they should be, without a zero."""
    import numpy as np

    sizes = [len(indices) for indices, _ in vectors]
    if sizes != [len(values) for _, values in vectors] or not any(sizes):
        return False
    indices = np.concatenate([own for own, _ in vectors])
    values = np.concatenate([own for _, own in vectors])
    rising = indices[1:] > indices[:-1]
    borders = np.cumsum(sizes)[:-1]
    rising[borders[(borders > 0) & (borders < len(indices))] - 1] = True  # from one vector to the next
    within = indices.min() >= 0 and indices.max() <= _LARGEST_DIMENSION
    return bool(rising.all() and within and values.all() and np.isfinite(values).all())


def float32(numbers: "Sequence[float] | npt.NDArray[np.floating]") -> "npt.NDArray[np.float32]":
    """The numbers as float32; what is too large for it is infinite, without a warning."""
    import numpy as np

    if isinstance(numbers, np.ndarray) and numbers.dtype == np.float32:
        return numbers
    with np.errstate(over="ignore"):
        return np.asarray(numbers, np.float32)


def sparse_problem(indices: Sequence[int], values: Sequence[float]) -> str | None:
    """What is wrong with dimensions or numbers, or None."""
    if len(indices) != len(values):
        return f"has {len(indices)} dimensions and {len(values)} numbers"
    if any(low >= high for low, high in pairwise(indices)):
        return "has dimensions that do not ascend"
    if indices and not 0 <= indices[0] <= indices[-1] <= _LARGEST_DIMENSION:
        return f"has a dimension outside 0…{_LARGEST_DIMENSION}"
    if not all(-FLOAT32_MAX <= x <= FLOAT32_MAX for x in values):
        return "contains a number that is not finite"
    return None


def sparse_rows(matrix: "csr_matrix") -> Iterator[SparseVector]:
    """The rows of a matrix, one by one."""
    ordered = matrix if matrix.has_sorted_indices else matrix.sorted_indices()  # which copies all of it
    for start, stop in pairwise(ordered.indptr.tolist()):
        yield SparseVector(ordered.indices[start:stop], ordered.data[start:stop])


def held(spec: IndexSpec, item: IndexItem) -> IndexItem:
    """An item as an index holds it: without its neighbors where these are in the table alone."""
    if columns.ITEM_WEIGHTS in spec.sparse or columns.ITEM_WEIGHTS not in item.sparse:
        return item
    return replace(item, sparse={n: own for n, own in item.sparse.items() if n != columns.ITEM_WEIGHTS})


def check_stored(spec: IndexSpec, names: Iterable[str]) -> None:
    """Refuse names of vectors that are neither dense nor sparse ones of the index; a RequestError names these."""
    for name in names:
        check_name(name, [*spec.dims, *spec.sparse])


def check_name(name: str, known: Sequence[str]) -> None:
    """Refuse a vector name that is not among the ``known`` ones, which the RequestError names."""
    if name not in known:
        otherwise = f"it has {', '.join(known) or 'none of this kind'}"
        raise RequestError(f"the index has no vector {name!r}", suggestion(name, known, otherwise))


def checked_query(spec: IndexSpec, name: str, query: Vector | SparseVector, k: int) -> Sequence[float] | SparseVector:
    """The query as plain finite numbers that fit float32; a sparse one loses its zeros.

    Raises:
        RequestError: On an unknown name, a query of the other kind or a wrong dimension, dimensions that do not ascend,
            a number that is not finite, or k < 1.
    """
    check_name(name, [*spec.dims, *spec.sparse])
    if k < 1:
        raise RequestError(f"k is {k}", "ask for at least one item")
    if isinstance(query, SparseVector) != (name in spec.sparse):
        kinds = ("dense", "sparse") if isinstance(query, SparseVector) else ("sparse", "dense")
        raise RequestError(f"the vector {name!r} is {kinds[0]} and the query {kinds[1]}", "search another vector")
    return _checked_sparse(name, query) if isinstance(query, SparseVector) else _checked_dense(spec, name, query)


def _checked_dense(spec: IndexSpec, name: str, query: Vector) -> Sequence[float]:
    values = query if isinstance(query, list | tuple | array) else [float(x) for x in query]
    if len(values) != spec.dims[name]:
        raise RequestError(
            f"the query has {len(values)} numbers, the vector {name!r} has {spec.dims[name]}",
            "use the encoder or the alignment that the index was made with",
        )
    if not all(-FLOAT32_MAX <= x <= FLOAT32_MAX for x in values):
        raise RequestError("the query contains a number that is not finite", "check what the vector was made from")
    return values


def _checked_sparse(name: str, query: SparseVector) -> SparseVector:
    indices, values = _plain(query.indices), _plain(query.values)
    if problem := sparse_problem(indices, values):
        raise RequestError(f"the sparse query for {name!r} {problem}", "check what the vector was made from")
    kept = [(i, v) for i, v in zip(indices, values, strict=True) if v]
    return SparseVector([i for i, _ in kept], [v for _, v in kept])


def _plain(numbers: Any) -> list[Any]:
    """A list of Python's numbers; arrays of Python and NumPy know how to make one."""
    return list(numbers.tolist() if hasattr(numbers, "tolist") else numbers)


def clean_payload(item_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload as JSON-able values; DataError on one that is no string, number, boolean or list of these.

    Missing ones (None, NaN and the infinities) are dropped; numbers with a fraction keep 15 digits.
    """
    cleaned: dict[str, Any] = {}
    for field, value in payload.items():
        if field == ITEM_ID:
            raise DataError(f"item {item_id!r} has a payload field {ITEM_ID!r}", "rename the column")
        if isinstance(value, list | tuple):
            values = [_scalar(item_id, field, v) for v in value]
            cleaned[field] = [v for v in values if v is not None]
        elif (scalar := _scalar(item_id, field, value)) is not None:
            cleaned[field] = scalar
    return cleaned


def _scalar(item_id: str, field: str, value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return value
    elif isinstance(value, float):
        # The embedded engine reads JSON numbers of 16 and 17 digits a bit off; 15 come back as they went in.
        return float(f"{value:.15g}") if isfinite(value) else None
    raise DataError(
        f"item {item_id!r}, field {field!r}: {value!r} of type {type(value).__name__} cannot be stored",
        "payloads hold strings, 64-bit integers, floats, booleans and lists of these",
    )


def batches(spec: IndexSpec, items: Iterable[IndexItem], size: int = BATCH) -> Iterator[list[IndexItem]]:
    """The items in bounded batches, checked: rows ascend, vectors are float32 lists of the right length.

    Sparse vectors lose their zeros, and are left out where they have nothing else. A DataError names an item that does
    not fit the spec.
    """
    previous = -1
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        for item in chunk:
            if item.row <= previous:
                raise DataError(
                    f"item {item.item_id!r} has row {item.row} after row {previous}",
                    "give the items in ascending order of distinct rows",
                )
            previous = item.row
        dense, sparse = _dense(spec, chunk), _sparse(spec, chunk)
        yield [
            IndexItem(item.row, item.item_id, vectors, clean_payload(item.item_id, item.payload), own)
            for item, vectors, own in zip(chunk, dense, sparse, strict=True)
        ]


def _dense(spec: IndexSpec, items: Sequence[IndexItem]) -> list[dict[str, Vector]]:
    """The vectors of each item, by name."""
    import numpy as np

    ready: list[dict[str, Vector]] = [{} for _ in items]
    for name in dict.fromkeys(name for item in items for name in item.vectors):
        places = [place for place, item in enumerate(items) if name in item.vectors]
        rows = [_vector(spec, items[place], name) for place in places]
        matrix = np.stack(rows)
        if not (finite := np.isfinite(matrix).all(axis=1)).all():
            item = items[places[int(np.argmin(finite))]]
            problem = f"item {item.item_id!r}: the vector {name!r} contains a number that is not finite"
            raise DataError(problem, "make it again")
        for place, vector in zip(places, matrix.tolist(), strict=True):
            ready[place][name] = vector
    return ready


def _vector(spec: IndexSpec, item: IndexItem, name: str) -> "npt.NDArray[np.float32]":
    if name not in spec.dims:
        raise DataError(f"item {item.item_id!r} has a vector {name!r}", f"the index has {', '.join(spec.dims)}")
    values = float32(item.vectors[name])
    if values.shape != (spec.dims[name],):
        raise DataError(
            f"item {item.item_id!r}: the vector {name!r} has shape {values.shape}, not ({spec.dims[name]},)",
            "make the vectors again",
        )
    return values


def _sparse(spec: IndexSpec, items: Sequence[IndexItem]) -> list[dict[str, SparseVector]]:
    """The sparse vectors of each item, by name."""
    ready: list[dict[str, SparseVector]] = [{} for _ in items]
    for name in dict.fromkeys(name for item in items for name in item.sparse):
        places = [place for place, item in enumerate(items) if name in item.sparse]
        if name not in spec.sparse:
            known = f"the index has {', '.join(spec.sparse)}" if spec.sparse else "the index has none"
            raise DataError(f"item {items[places[0]].item_id!r} has a sparse vector {name!r}", known)
        owners = [f"item {items[place].item_id!r}, {name!r}" for place in places]
        sizes, indices, values = joined([items[place].sparse[name] for place in places], owners.__getitem__)
        dimensions, numbers, begin = indices.tolist(), values.tolist(), 0
        for place, length in zip(places, sizes, strict=True):
            if length:
                own = slice(begin, begin + length)
                ready[place][name] = SparseVector(dimensions[own], numbers[own])
            begin += length
    return ready
