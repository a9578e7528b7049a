"""The shadow stage: some requests are ranked by both arms behind the scenes, and nobody sees the treatment."""

import threading
import time
from typing import Any

from molar_indexes.experiments.arms import ListWanted, OpenArm
from molar_indexes.experiments.behind import BackgroundLists
from molar_indexes.experiments.recording import ExperimentRecorder
from molar_indexes.experiments.running import LiveExperiment
from molar_retrieval.experiments.definition import CONTROL, TREATMENT
from molar_retrieval.experiments.records import ShadowRow
from molar_retrieval.ranking.results import Answer

_FIRST = 10  # places that are compared
_BURST = 10  # lists that may be compared at once, before the rate holds
_PRICES = ("price", "unit_price", "median_price", "mean_price")


class Shadowing:
    """Has a sample of requests ranked by both arms.

    Args:
        recorder: Where rows go.
        behind: Makes the lists.
        rate: How many a second, at most.
        limited: Whether that holds; else every request is.
    """

    def __init__(
        self, recorder: ExperimentRecorder, behind: BackgroundLists, rate: float, *, limited: bool = True
    ) -> None:
        self._recorder, self._behind, self._rate, self._limited = recorder, behind, rate, limited
        self._left, self._looked = float(_BURST), time.monotonic()
        self._lock = threading.Lock()

    def compare(self, live: LiveExperiment, wanted: ListWanted, given: Answer, at: int) -> None:
        """Have both arms rank a request that was answered at a moment (microseconds since 1970), if it is sampled."""
        if self._limited and not self._taken():
            return
        self._behind.do(lambda: self._recorder.shadow(live.name, _row(live, wanted, given.events, at)))

    def _taken(self) -> bool:
        """Whether one more is within the rate."""
        with self._lock:
            now = time.monotonic()
            self._left = min(float(_BURST), self._left + self._rate * (now - self._looked))
            self._looked = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


def _row(live: LiveExperiment, wanted: ListWanted, events: int, at: int) -> ShadowRow:
    """Both arms, one after the other; either may be first, as what the first one reads is warm for the other."""
    names = (CONTROL, TREATMENT) if at % 2 else (TREATMENT, CONTROL)
    made = {name: _made(live.arms[name], wanted, events) for name in names}
    told: dict[str, Any] = {}
    for name, (answer, milliseconds) in made.items():
        told[f"{name}_ms"], told[f"{name}_error"] = milliseconds, answer is None
        told[f"{name}_empty"] = answer is not None and not answer.items
        told[f"{name}_price"] = None if answer is None else _price(answer)
    firsts = [
        {item.item_id for item in answer.items[:_FIRST]} if answer is not None else set() for answer, _ in made.values()
    ]
    longest = max(map(len, firsts))
    overlap = len(firsts[0] & firsts[1]) / longest if longest else 1.0
    return ShadowRow(at, overlap, **told)


def _made(arm: OpenArm, wanted: ListWanted, events: int) -> tuple[Answer | None, float]:
    """An arm's list, None where it fails, and the milliseconds that it took."""
    began = time.perf_counter()
    try:
        answer: Answer | None = arm.answer(wanted, events)
    except Exception:  # it is counted
        answer = None
    return answer, 1000 * (time.perf_counter() - began)


def _price(answer: Answer) -> float | None:
    """The mean price of a list's items; None where none has one."""
    found = [next((item.payload[name] for name in _PRICES if name in item.payload), None) for item in answer.items]
    prices = [float(price) for price in found if isinstance(price, int | float) and not isinstance(price, bool)]
    return sum(prices) / len(prices) if prices else None
