"""Times that cannot be: in the future, at zero, one and the same for very many interactions."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.log.rows import BLOCK

SECOND = 1_000_000
DAY = 86_400 * SECOND
EARLIEST = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()) * SECOND
"""No shop has logged interactions before; a time before it is a default or a mistake."""
GRACE = DAY  # How far a time may lie ahead of the clock: zones differ by less than a day
STUCK = 20  # A moment is suspicious that has so many times the interactions of the busiest hundredth of moments,
STUCK_ROWS = 50  # at least so many interactions,
STUCK_SHARE = 0.001  # and this share of the log
_SAMPLE = 200_000

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Row = Callable[[str, str, int], Finding]  # Makes a finding of a kind, with a detail, about a row of the log


def written(micros: int) -> str:
    """A time for people, in UTC: the day where it is midnight, else with the second."""
    try:
        when = datetime.fromtimestamp(micros // SECOND, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{micros // SECOND} s"
    return when.strftime("%Y-%m-%d" if micros % DAY == 0 else "%Y-%m-%d %H:%M:%S")


def are_dates(micros: Micros) -> bool:
    """Whether most times lie where dates do; else they are counters or of another unit."""
    early = sum(int((micros[i : i + BLOCK] < EARLIEST).sum()) for i in range(0, len(micros), BLOCK))
    return early * 2 <= len(micros)


def impossible(micros: Micros, now: float, found: Collector, row: Row) -> Mask:
    """Report times at zero and later than ``now`` (seconds); returns the mask of those that can be."""
    latest = int(now * SECOND) + GRACE
    fine = np.ones(len(micros), bool)
    for kind, wrong in (("log.zero_time", micros < EARLIEST), ("log.future_time", micros > latest)):
        found.each(kind, np.flatnonzero(wrong), lambda i, kind=kind: row(kind, written(int(micros[i])), i))  # type: ignore[misc]
        fine &= ~wrong
    return fine


def stuck(micros: Micros, file: str, found: Collector) -> Micros:
    """Report moments that very many interactions share, and a log with a single one; the moments are returned."""
    if len(micros) < 2:
        return micros[:0]
    if micros[0] == micros[-1] and bool((micros == micros[0]).all()):
        found.add("log.constant_time", f"{len(micros):,} × {written(int(micros[0]))}", file=file, amount=1.0)
        return micros[:1]
    small = len(micros) <= _SAMPLE
    some = micros if small else micros[rng.generator(0, "check", "moments").integers(0, len(micros), _SAMPLE)]
    moments, counts = np.unique(some, return_counts=True)
    usual = np.sort(counts)[: max(1, int(0.99 * len(counts)))][-1]
    least = max(STUCK * int(usual), STUCK_ROWS if small else 1, STUCK_SHARE * len(some))
    suspects = moments[counts >= least]
    for moment in suspects[np.argsort(-counts[counts >= least], kind="stable")]:
        n = sum(int((micros[i : i + BLOCK] == moment).sum()) for i in range(0, len(micros), BLOCK))
        share = n / len(micros)
        detail = f"{n:,} interactions ({share:.1%}) at {written(int(moment))}"
        facts = {"seconds": int(moment) // SECOND, "interactions": n}
        found.add("log.stuck_time", detail, file=file, amount=share, facts=facts)
    return suspects
