"""Pieces of work in threads: NumPy, SciPy and BLAS let others run while they compute."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def allowed() -> int:
    """As many as BLAS may use now, at least one."""
    from threadpoolctl import threadpool_info

    return max([1, *(int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas")])


def each(work: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
    """What ``work`` makes of the pieces, in their order, by as many threads as are :func:`allowed`.

    Results are held until they are asked for, so they should be small, or be kept anyway.
    """
    pieces = list(pieces)
    count = min(len(pieces), allowed())
    if count < 2:
        yield from map(work, pieces)
        return
    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(work, pieces)
