"""Retention: interactions that are older than a shop keeps them are not read.

Days count back from today (UTC), not from the last interaction: a promise of a time is about the clock. A log is
therefore what it was until its oldest interaction is too old, and then another one, without anything having come.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.interactions.log import counts
from molar_retrieval.interactions.raw import RawLog

DAY = 86_400
_SECOND = 1_000_000


@dataclass(frozen=True)
class Retention:
    """What is kept: ``days`` before today, None: all; ``since`` is their beginning, in seconds since 1970."""

    days: int | None = None
    since: int = 0

    @classmethod
    def of(cls, days: int | None, now: float | None = None) -> Self:
        """So many days before a moment, by default the present one."""
        if days is None:
            return cls()
        return cls(days, (int((time.time() if now is None else now) // DAY) - days) * DAY)

    def fits(self, facts: Mapping[str, Any]) -> bool:
        """Whether prepared interactions, by the facts of their manifest, are what is to be kept now."""
        kept = facts.get("kept") or {}
        return kept.get("days") == self.days and (self.days is None or kept["oldest"] >= self.since)

    def require_times(self, dated: bool, name: str) -> None:
        """A SettingsError where a file has no times, by which nobody could tell what is old."""
        if self.days is not None and not dated:
            raise SettingsError(
                f"[privacy] retention_days = {self.days}, and {name} has no times that are dates",
                "bring a column of times, or leave retention_days out and cut the file yourself",
            )

    def kept(self, log: RawLog, users: pa.Array) -> tuple[RawLog, pa.Array, dict[str, Any]]:
        """A log without what is too old, the users who have anything left, by row, and facts for the manifest.

        A DataError says that nothing is left.
        """
        if self.days is None:
            return log, users, {}
        assert log.micros is not None
        young = log.micros >= self.since * _SECOND
        if not young.any():
            words = f"no interaction is of the last {self.days:,} days, which [privacy] retention_days keeps"
            raise DataError(words, "bring a newer log, or raise retention_days")
        oldest, dropped = int(log.micros[young].min() // _SECOND), int((~young).sum())
        log = log.take(young)
        left = counts(log.user, len(users)) > 0
        rows: npt.NDArray[np.int32] = (np.cumsum(left) - 1).astype(np.int32)
        facts = {"kept": {"days": self.days, "since": self.since, "oldest": oldest, "too_old": dropped}}
        return replace(log, user=rows[log.user]), users.filter(pa.array(left)), facts
