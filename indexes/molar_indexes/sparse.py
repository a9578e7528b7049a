"""Sparse vectors: what indexes, searches and the users' file demand of them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from molar_retrieval.errors import DataError
from molar_retrieval.ranking.index_protocol import SparseVector

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from scipy.sparse import csr_matrix

FLOAT32_MAX = 3.4028234663852886e38
_LARGEST_DIMENSION = (1 << 31) - 1


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
