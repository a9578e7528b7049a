"""Solve symmetric positive definite systems of any size: the dense factorisations by SciPy's LAPACK are all here.

OpenBLAS's threaded Cholesky (POTRF) and symmetric product (SYRK) pack up to ``n / √2`` columns into a work buffer of
32 MB. By SkylakeX kernels (AVX-512) and two threads it is overrun in float64 from about n = 15,600 (seen in 0.3.30 and
0.3.31): the process dies of SIGSEGV, or goes on with damaged memory. Float32 needs half as much; one thread and general
products (GEMM, TRSM) have bounds of their own. So a matrix whose rows are longer than 80,000 bytes is factorised here
in blocks of rows, by POTRF on the diagonal and GEMM beside it.
"""

from types import ModuleType
from typing import Any

import numpy as np

from molar_retrieval.workspace.tensors import Array

_LONGEST_ROW = 80_000
"""Bytes of a row up to which a matrix is factorised whole: 10,000 numbers in float64, 20,000 in float32."""
_BLOCK = 4096


def solve(matrix: Array, right: Array, *, block: int | None = None) -> Array:
    """Solve ``matrix @ X = right`` for X.

    Args:
        matrix: Symmetric positive definite, shape (n, n), float32 or float64, in row order; it is written over.
        right: Shape (n, k).
        block: Factorise in blocks of so many rows; None: only a matrix that is too large to be factorised at once.

    Returns:
        X, shape (n, k), in the precision of ``matrix``.

    Raises:
        numpy.linalg.LinAlgError: If the matrix is not positive definite.
    """
    found: Array
    if block is None and _is_short(matrix):
        # The transpose of a symmetric matrix is the same one in the order of LAPACK, which then needs no copy.
        found, _ = _routine("potrs", matrix)(_factor(matrix.T), right, lower=1)
        return found
    _factor_in_blocks(matrix, block or _BLOCK)
    found = np.array(right, matrix.dtype, order="C")
    for columns in _blocks(found.shape[1], _BLOCK):
        _substitute(matrix, found[:, columns], block or _BLOCK)
    return found


def inverse(matrix: Array, *, block: int | None = None) -> Array:
    """The inverse of a matrix as in :func:`solve`, but in column order; its result is symmetric to the last bit.

    Raises:
        numpy.linalg.LinAlgError: If the matrix is not positive definite.
    """
    if block is None and _is_short(matrix):
        return _mirrored(_routine("potri", matrix)(_factor(matrix), lower=1, overwrite_c=1)[0])
    return _mirrored(solve(matrix.T, np.eye(len(matrix), dtype=matrix.dtype), block=block).T)


def quadratic_form(matrix: Array, right: Array, *, block: int | None = None) -> Array:
    """``Rᵀ A⁻¹ R``, shape (k, k), A being the ``matrix`` of :func:`solve` and R its ``right``, in column order.

    Raises:
        numpy.linalg.LinAlgError: If the matrix is not positive definite.
    """
    if block is None and _is_short(matrix) and _is_short(right):
        half, _ = _routine("trtrs", matrix)(_factor(matrix.T), right, lower=1)
        return _mirrored(_routine("syrk", matrix)(1.0, half, trans=1, lower=1))
    solved = solve(matrix, right, block=block)
    products = [right[:, columns].T @ solved for columns in _blocks(right.shape[1], block or _BLOCK)]
    return _mirrored(np.concatenate(products).T)


def _is_short(matrix: Array) -> bool:
    return bool(matrix.shape[1] * matrix.itemsize <= _LONGEST_ROW)


def _routine(name: str, matrix: Array) -> Any:
    from scipy.linalg import blas, lapack

    library: ModuleType = blas if name in {"syrk", "trsm"} else lapack
    return getattr(library, {4: "s", 8: "d"}[matrix.itemsize] + name)


def _factor(matrix: Array) -> Array:
    """The lower Cholesky factor in place of a matrix in column order; what is above the diagonal is left as it is."""
    half: Array
    half, failed = _routine("potrf", matrix)(matrix, lower=1, overwrite_a=1, clean=0)
    if failed:
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    return half


def _mirrored(lower: Array) -> Array:
    """A symmetric matrix of which LAPACK has filled the lower triangle, in row order."""
    whole = lower.T  # has it above the diagonal
    for row in range(1, len(whole)):
        whole[row, :row] = whole[:row, row]
    return whole


def _blocks(count: int, block: int) -> list[slice]:
    return [slice(begin, min(begin + block, count)) for begin in range(0, count, block)]


def _factor_in_blocks(matrix: Array, block: int) -> None:
    """The lower Cholesky factor in place; above the diagonal is anything."""
    blocks, trsm = _blocks(len(matrix), block), _routine("trsm", matrix)
    for number, own in enumerate(blocks):
        half = _factor(np.array(matrix[own, own], order="F"))
        matrix[own, own] = half
        for below in blocks[number + 1 :]:
            matrix[below, own] = trsm(1.0, half, matrix[below, own], side=1, lower=1, trans_a=1)
        for row, below in enumerate(blocks[number + 1 :]):
            for beside in blocks[number + 1 : number + row + 2]:
                matrix[below, beside] -= matrix[below, own] @ matrix[beside, own].T


def _substitute(matrix: Array, right: Array, block: int) -> None:
    """Solve for some columns in place, ``matrix`` being factorised."""
    blocks, trsm = _blocks(len(matrix), block), _routine("trsm", matrix)
    for own in blocks:
        right[own] -= matrix[own, : own.start] @ right[: own.start]
        right[own] = trsm(1.0, matrix[own, own], right[own], lower=1)
    for own in reversed(blocks):
        right[own] -= matrix[own.stop :, own].T @ right[own.stop :]
        right[own] = trsm(1.0, matrix[own, own], right[own], lower=1, trans_a=1)
