"""Findings of a pass over many rows: all are counted, a bounded number of each kind is kept."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from molar_retrieval.quality.findings import Finding, Kind

LIMIT = 1_000
"""How many findings of a kind are kept unless somebody asks for more."""


class Bounded:
    """Takes findings; the first of each kind are kept.

    Args:
        limit: How many of a kind.

    Attributes:
        counts: How many there are of each kind, by its name.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.counts: Counter[str] = Counter()
        self._limit = limit
        self._kept: dict[str, list[Finding]] = {}

    def add(self, finding: Finding) -> None:
        """Take one."""
        self.each(finding.kind, [0], lambda _: finding)

    def each(self, kind: Kind, which: Sequence[int] | npt.NDArray[np.integer], make: Callable[[int], Finding]) -> None:
        """Take one for each of some rows; only those that are kept are made.

        Args:
            kind: What they are.
            which: Rows, those that matter most first.
            make: From a row to its finding.
        """
        if not len(which):
            return
        self.counts[kind.name] += len(which)
        kept = self._kept.setdefault(kind.name, [])
        kept += [make(int(row)) for row in which[: max(self._limit - len(kept), 0)]]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Those that were kept, kind by kind."""
        return tuple(finding for kept in self._kept.values() for finding in kept)
