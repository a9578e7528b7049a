"""Cases in blocks, so that sums of vectors and shares of categories need not be held for all of them."""

from collections.abc import Iterator

_CASES = 2048


def blocks(n_cases: int) -> Iterator[slice]:
    """Slices that cover all cases."""
    for start in range(0, n_cases, _CASES):
        yield slice(start, min(start + _CASES, n_cases))
