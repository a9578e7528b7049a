"""Solve a large system of known solution, with memory behind BLAS's work buffers that nobody may touch.

    python tests/cholesky_child.py float64 17000

Writes the largest relative error. Where BLAS writes past a buffer, this process dies of SIGSEGV, which otherwise
depends on what happens to lie there.
"""

import ctypes
import faulthandler
import mmap
import sys
from pathlib import Path

import numpy as np

from molar_retrieval import cholesky

_BUFFER = 32 << 20
_FIXED = 0x100000  # MAP_FIXED_NOREPLACE


def made(n: int, number: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``2 I + u uᵀ``, some columns, and what they are the image of."""
    random = np.random.default_rng(0)
    u = (random.normal(size=n) / np.sqrt(n)).astype(number)
    matrix = np.outer(u, u)
    matrix[np.diag_indices(n)] += 2
    solution = random.normal(size=(n, 50)).astype(number)
    return matrix, 2 * solution + np.outer(u, u @ solution), solution


def mappings() -> list[tuple[int, int, bool]]:
    """Where memory is mapped, and whether to a file."""
    found = []
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        parts = line.split()
        begin, end = (int(part, 16) for part in parts[0].split("-"))
        found.append((begin, end, len(parts) > 5))
    return found


def guarded() -> int:
    """Forbid the memory behind each buffer of BLAS; how many there are."""
    before = {*mappings()}
    matrix, right, _ = made(3000, sys.argv[1])
    cholesky.solve(matrix, right)  # now BLAS has its buffers
    del matrix, right
    library, count = ctypes.CDLL(None), 0
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    known = mappings()
    for begin, end, file in known:
        if (begin, end, file) not in before and end - begin == _BUFFER and not file:
            free = min((other for other, _, _ in known if other >= end), default=end + _BUFFER) - end
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _FIXED
            count += free > 0 and library.mmap(end, min(free, _BUFFER), 0, flags, -1, 0) == end
    return count


def main() -> None:
    faulthandler.enable()
    if sys.platform == "linux":
        sys.stderr.write(f"{guarded()} buffers are guarded\n")
    matrix, right, solution = made(int(sys.argv[2]), sys.argv[1])
    found = cholesky.solve(matrix, right)
    sys.stdout.write(f"{np.abs(found - solution).max() / np.abs(solution).max()}\n")


if __name__ == "__main__":
    main()
