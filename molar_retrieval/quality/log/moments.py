"""Times that cannot be: in the future, at zero, one and the same for very many interactions."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.interactions.times import EARLY, LATE, impossible, written
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.log.rows import BLOCK

SECOND = 1_000_000
DAY = 86_400 * SECOND
STUCK = 20  # A moment is suspicious that has so many times the interactions of the busiest hundredth of moments,
STUCK_ROWS = 50  # at least so many interactions,
STUCK_SHARE = 0.001  # and this share of the log
_SAMPLE = 200_000
_KINDS = {EARLY: "log.zero_time", LATE: "log.future_time"}

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Row = Callable[[str, str, int], Finding]  # Makes a finding of a kind, with a detail, about a row of the log


def report_impossible(micros: Micros, asked: Mask, now: float, found: Collector, row: Row) -> Mask:
    """Report times before 1990 and later than ``now`` (seconds) in the rows asked for; which of these are left."""
    fine = asked.copy()
    for reason, wrong in impossible(micros, now).items():
        kind = _KINDS[reason]
        found.each(kind, np.flatnonzero(asked & wrong), lambda i, kind=kind: row(kind, written(int(micros[i])), i))  # type: ignore[misc]
        fine &= ~wrong
    return fine


def stuck(micros: Micros, numbers: npt.NDArray[np.uint32], file: str, found: Collector) -> Micros:
    """Report moments that very many interactions share, and a log with a single one; the moments are returned.

    ``numbers`` are the rows of the file, in its order.
    """
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
        where = {"file": file, "row": int(numbers[np.argmax(micros == moment)])}
        found.add("log.stuck_time", detail, **where, amount=share, facts=facts)
    return suspects
