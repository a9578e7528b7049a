"""The best sums of several ranked lists without ranking everything: the threshold algorithm.

Source: R. Fagin, A. Lotem and M. Naor, "Optimal aggregation algorithms for middleware", PODS 2001,
doi:10.1145/375551.375567. Sorted access comes in blocks that grow, because a search engine starts anew for a longer
list, and random access leaves out candidates that cannot win.
"""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Protocol

FIRST_DEPTH = 128
"""How much of each list is read at first: enough to settle ten of 3,883 items in one round even where the lists have
nothing to do with each other; reading less saves little."""
_GROWTH = 4


class Ranking(Protocol):
    """One addend of every item's sum."""

    @property
    def absent(self) -> float:
        """The addend of an item that is not in the list: minus infinity where it cannot be found then."""
        ...

    def best(self, n: int) -> Sequence[tuple[int, float]]:
        """Rows and addends of the ``n`` best, best first; fewer only where no others are in the list."""
        ...

    def of(self, rows: Iterable[int]) -> dict[int, float]:
        """The addends of ``rows``, without those that are not in the list."""
        ...


def best_sums(rankings: Sequence[Ranking], k: int, count: int) -> list[tuple[int, float]]:
    """The ``k`` rows with the largest sums, best first, equal sums by row.

    An item that no list has shown can at most have the last addend that each of them has shown, or that of an absent
    item, so the answer is final once its last sum exceeds the total of these. (A sum that only equals it would leave
    equal sums to chance.)

    Args:
        rankings: The addends.
        k: How many.
        count: No list is longer.
    """
    depth = min(max(FIRST_DEPTH, 4 * k), count + 1)
    while True:
        heads = [ranking.best(depth) for ranking in rankings]
        done = [len(head) < depth for head in heads]
        ends = [
            ranking.absent if all_shown else max(head[-1][1], ranking.absent)
            for head, ranking, all_shown in zip(heads, rankings, done, strict=True)
        ]
        known = [dict(head) for head in heads]
        sums = _complete(rankings, known, ends, done, k)
        best = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        bound = sum(ends)
        if bound == -inf or (len(best) == k and best[-1][1] > bound):
            return best
        depth = min(depth * _GROWTH, count + 1)


def _complete(
    rankings: Sequence[Ranking],
    known: Sequence[dict[int, float]],
    ends: Sequence[float],
    exhausted: Sequence[bool],
    k: int,
) -> dict[int, float]:
    """The exact sums of all rows in ``known`` that can be among the ``k`` best.

    Missing addends are asked for, of lists that were not shown whole, only where the row could reach the k-th of the
    complete sums with the lists' ends in their place.
    """
    lists = list(zip(known, ends, exhausted, strict=True))
    sums: dict[int, float] = {}
    bounds: dict[int, float] = {}
    for row in set().union(*known):
        total, missing = 0.0, False
        for addends, end, done in lists:
            if row in addends:
                total += addends[row]
            else:
                total += end
                missing = missing or not done
        if total > -inf:
            (bounds if missing else sums)[row] = total
    complete = sorted(sums.values(), reverse=True)
    least = complete[k - 1] if len(complete) >= k else -inf
    open_rows = [row for row, bound in bounds.items() if bound >= least]
    for ranking, addends, done in zip(rankings, known, exhausted, strict=True):
        if not done and (wanted := [row for row in open_rows if row not in addends]):
            addends |= {row: ranking.absent for row in wanted} | ranking.of(wanted)
    for row in open_rows:
        total = sum(addends.get(row, ranking.absent) for addends, ranking in zip(known, rankings, strict=True))
        if total > -inf:
            sums[row] = total
    return sums
