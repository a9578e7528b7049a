"""Users that behave like robots: too fast, like clockwork, or without sleep."""

import numpy as np
import numpy.typing as npt

from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding, fault
from molar_retrieval.quality.log.moments import SECOND
from molar_retrieval.quality.log.rows import Ints, UserBlock

HOUR = 3_600
RATE = 100  # Interactions within an hour below which no user is too fast
SPREADS = 4.0  # Who is too fast is so many times as far above the median user as the busiest tenth (logarithms)
CLOCKWORK_PAUSE = 20  # Pauses of fewer seconds are left to the rate
CLOCKWORK_ROWS = 50  # Pauses that must follow one another for them to be like clockwork,
CLOCKWORK_SHARE = 0.5  # the share of them that must be as long as the one before,
CLOCKWORK_JITTER = 0.05  # give or take this part of it
SLEEPLESS_HOURS = 36  # So long nobody stays awake,
SLEEPLESS_PAUSE = 3  # that is, pauses for so many hours or more,
SLEEPLESS_ROWS = 100  # with at least so many interactions


class Robots:
    """Gathers signs by blocks of users; of times too ``coarse`` to tell a pause of a minute, rates only."""

    def __init__(self, users: int, *, coarse: bool) -> None:
        self._coarse = coarse
        self._peaks = np.zeros(users, np.int32)
        self._signs: dict[int, list[str]] = {}

    def add(self, block: UserBlock) -> None:
        """Take a block, which must have times."""
        seconds = block.times // SECOND
        seconds -= seconds.min()
        # One ascending line for all users, with room between them.
        line = block.user * (int(seconds.max()) + 2 * HOUR) + seconds
        within = np.searchsorted(line, line + HOUR, side="left") - np.arange(len(line))
        self._peaks[block.who] = np.maximum.reduceat(within, block.starts[:-1])
        if not self._coarse:
            pauses = np.diff(line, prepend=line[:1])
            pauses[block.starts[:-1]] = 0
            self._regular(block, pauses)
            self._awake(block, line)

    def _regular(self, block: UserBlock, pauses: Ints) -> None:
        before = np.concatenate([[0], pauses[:-1]])
        jitter = np.maximum(CLOCKWORK_JITTER * before, 1)
        same = (np.abs(pauses - before) <= jitter) & (before > CLOCKWORK_PAUSE) & (pauses < 6 * HOUR)
        lengths = np.diff(block.starts)
        share = np.bincount(block.user, same, len(lengths)) / np.maximum(lengths - 2, 1)
        for row in np.flatnonzero((lengths > CLOCKWORK_ROWS) & (share >= CLOCKWORK_SHARE)).tolist():
            own = pauses[block.starts[row] + 1 : block.starts[row + 1]]
            self._sign(block.who[row], f"one every {np.median(own):,.0f} s")

    def _awake(self, block: UserBlock, line: Ints) -> None:
        rest = np.diff(line, prepend=line[:1]) >= SLEEPLESS_PAUSE * HOUR
        rest[block.starts[:-1]] = True
        begins = np.flatnonzero(rest)
        ends = np.append(begins[1:], len(line)) - 1
        hours = (line[ends] - line[begins]) / HOUR
        long = np.flatnonzero((hours >= SLEEPLESS_HOURS) & (ends - begins + 1 >= SLEEPLESS_ROWS))
        rows, first = np.unique(block.user[begins[long]], return_index=True)
        longest = np.maximum.reduceat(hours[long], first) if len(first) else first
        for row, most in zip(rows.tolist(), longest.tolist(), strict=True):
            self._sign(block.who[row], f"{most:,.0f} hours without a pause of {SLEEPLESS_PAUSE}")

    def _sign(self, user: int, words: str) -> None:
        self._signs.setdefault(int(user), []).append(words)

    def report(
        self, lengths: Ints, users: list[str], first: npt.NDArray[np.uint32], file: str, found: Collector
    ) -> None:
        """Report those that stand out, the busiest by ``lengths`` (interactions of each user) first.

        ``first`` is the row of the file in which each user comes first.
        """
        signs = {row: list(words) for row, words in self._signs.items()}
        for row in np.flatnonzero(self._peaks >= _too_fast(self._peaks)).tolist():
            signs.setdefault(row, []).insert(0, f"{self._peaks[row]:,} within an hour")
        ranked = sorted(signs, key=lambda row: -lengths[row])

        def finding(row: int) -> Finding:
            detail = f"{lengths[row]:,} interactions: {', '.join(signs[row])}"
            where = {"file": file, "row": int(first[row])}
            return fault("log.bot", detail, user_id=users[row], **where, amount=float(lengths[row]))

        found.each("log.bot", ranked, finding)


def _too_fast(peaks: npt.NDArray[np.int32]) -> float:
    """How many interactions within an hour are too many, given those of all users."""
    active = np.log(peaks[peaks > 0])
    if not len(active):
        return float(RATE)
    middle, busy = np.quantile(active, [0.5, 0.9])
    return max(float(RATE), float(np.exp(middle + SPREADS * (busy - middle))))
