"""The calendar of a log: gaps and bursts."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding, fault

AROUND = 28  # Days before and after that say what is usual
EXPECTED = 15.0  # A gap is one where so many users would have come, were all as usual
BURST_TIMES = 4.0  # A burst has so many times the usual interactions of a day,
BURST_SPREADS = 8.0  # so many spreads more than usual,
BURST_ROWS = 50  # and so many interactions more
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Calendar:
    """A log by day, in UTC: the ``first`` day, in days since 1970; interactions and active users, shape (days,)."""

    first: int
    interactions: npt.NDArray[np.int64]
    users: npt.NDArray[np.int64]

    def day(self, number: int) -> str:
        """The date of a day."""
        return (_EPOCH + timedelta(days=self.first + number)).isoformat()


def gaps(calendar: Calendar, file: str, found: Collector) -> None:
    """Report runs of days without interactions on which some would be expected.

    What is expected follows from the same days of the week in the four weeks before and after, so that a shop which
    is closed on Sundays has no gaps; users are counted, not interactions, which come in heaps.
    """
    users = calendar.users
    for start, end in _runs(users == 0):
        expected = _expected(users, start, end)
        if expected < EXPECTED:
            continue
        days = end - start
        which = calendar.day(start) if days == 1 else f"{calendar.day(start)} to {calendar.day(end - 1)}, {days:,} days"
        detail = f"{which}: nothing, where some {expected:,.0f} users would be expected"
        facts = {"first": calendar.day(start), "last": calendar.day(end - 1), "days": days}
        found.add("log.gap", detail, file=file, amount=float(days), facts=facts)


def bursts(calendar: Calendar, file: str, found: Collector) -> None:
    """Report days with far more interactions than those around them."""
    n = calendar.interactions.astype(np.float64)
    if len(n) < 7:
        return
    padded = np.pad(n, AROUND // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, AROUND + 1)
    usual = np.nanmedian(windows, axis=1)
    spread = np.maximum(1.4826 * np.nanmedian(np.abs(windows - usual[:, None]), axis=1), np.sqrt(usual) + 1)
    more = n - usual
    burst = (n >= BURST_TIMES * usual) & (more >= BURST_SPREADS * spread) & (more >= BURST_ROWS)
    days = np.flatnonzero(burst)

    def finding(d: int) -> Finding:
        seen = f"{int(n[d]):,} interactions of {calendar.users[d]:,} users"
        detail = f"{calendar.day(d)}: {seen}, usual are {usual[d]:,.0f}"
        facts = {"day": calendar.day(d), "interactions": int(n[d]), "users": int(calendar.users[d])}
        return fault("log.burst", detail, file=file, amount=float(n[d] / max(usual[d], 1)), facts=facts)

    found.each("log.burst", days[np.argsort(-more[days], kind="stable")], finding)


def _runs(mask: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    borders = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return zip(borders[::2].tolist(), borders[1::2].tolist(), strict=True)


def _expected(users: npt.NDArray[np.int64], start: int, end: int) -> float:
    days = np.concatenate([np.arange(max(0, start - AROUND), start), np.arange(end, min(len(users), end + AROUND))])
    total = 0.0
    for weekday in range(7):
        wanted = int((np.arange(start, end) % 7 == weekday).sum())
        same = users[days[days % 7 == weekday]]
        if wanted and len(same) > 1:
            total += wanted * float(np.sort(same)[:-1].mean())  # without the largest, which may be a burst
    return total
