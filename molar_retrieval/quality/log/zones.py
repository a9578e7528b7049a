"""Jumps of the time zone: from some day on, people seem to get up hours earlier or later."""

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from molar_retrieval.quality.bounded import Bounded
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.log import kinds
from molar_retrieval.quality.log.days import Calendar

WINDOW = 14
"""Days before and after a jump that are compared."""
SHORTEST = 3
"""Days that must lie before and after a jump."""
GAIN = 60.0
"""By so much the logarithm of the likelihood must rise when a jump is assumed; chance gives 30 at most,"""
GAIN_PER_VISIT = 0.005
"""by so much per visit,"""
EXPLAINED = 0.7
"""and the jump must explain so much of the difference between before and after."""
STRAY = 0.1
"""Share of visits that may come at any hour; so a single odd hour does not look like a jump."""
_DST_DAYS = 3

Floats = npt.NDArray[np.float64]


def jumps(calendar: Calendar, file: str, found: Bounded) -> None:
    """Report days from which on the profile of the hours of the day is another one, moved by whole hours."""
    gain, shift = _gains(calendar.visits.astype(np.float64))
    while len(gain) and gain.max() > 0:
        day = int(np.argmax(gain))
        found.add(_finding(calendar, day, int(shift[day]), file))
        gain[max(0, day - WINDOW) : day + WINDOW + 1] = 0


def _gains(visits: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """For each first day of a possible jump, what assuming it gains (0 where that is not enough), and its hours."""
    days = len(visits)
    gain, shift = np.zeros(days), np.zeros(days, np.int64)
    for day in range(SHORTEST, days - SHORTEST + 1):
        found, hours = _gain(_profile(visits[max(0, day - WINDOW) : day]), _profile(visits[day : day + WINDOW]))
        if found:
            gain[day], shift[day] = found, hours
    return gain, shift


def _profile(visits: Floats) -> Floats:
    """Visits by hour over some days, none counting for more than two usual ones: crowds have hours of their own."""
    per_day = visits.sum(axis=1)
    most = 2 * np.median(per_day[per_day > 0]) if per_day.any() else 0.0
    profile: Floats = (np.minimum(1, most / np.maximum(per_day, 1))[:, None] * visits).sum(axis=0)
    return profile


def _gain(before: Floats, after: Floats) -> tuple[float, int]:
    n = after.sum()
    if min(n, before.sum()) < 100:
        return 0.0, 0
    usual = (1 - STRAY) * before / before.sum() + STRAY / 24
    likelihood = np.array([after @ np.log(np.roll(usual, hours)) for hours in range(24)])
    best = int(np.argmax(likelihood))
    gain = float(likelihood[best] - likelihood[0])
    nothing_left = float(after[after > 0] @ np.log(after[after > 0] / n))
    enough = gain >= max(GAIN, GAIN_PER_VISIT * n) and gain >= EXPLAINED * (nothing_left - likelihood[0])
    return (gain, best if best <= 12 else best - 24) if enough else (0.0, 0)


def _finding(calendar: Calendar, day: int, hours: int, file: str) -> Finding:
    when = date(1970, 1, 1) + timedelta(days=calendar.first + day)
    saving = abs(hours) == 1 and any(abs((when - change).days) <= _DST_DAYS for change in _clock_changes(when.year))
    facts = {"day": when.isoformat(), "hours": hours}
    return Finding(
        kinds.DAYLIGHT_SAVING if saving else kinds.ZONE_JUMP,
        f"from {when.isoformat()} on everything happens {abs(hours)} h {'later' if hours > 0 else 'earlier'}",
        file=file,
        amount=float(abs(hours)),
        facts=facts,
    )


def _clock_changes(year: int) -> list[date]:
    """When the clocks change in Europe and in North America."""

    def sunday(month: int, day: int) -> date:
        """The last Sunday up to a day."""
        last = date(year, month, day)
        return last - timedelta(days=(last.weekday() + 1) % 7)

    return [sunday(3, 31), sunday(10, 31), sunday(3, 14), sunday(11, 7)]
