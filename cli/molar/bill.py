"""What a run takes, or would take: by the clock, of the processors, in energy and in money."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molar_retrieval.reports.wording import duration
from molar_retrieval.workspace.activity_log import killed_last, recorded

if TYPE_CHECKING:
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.activity_log import WorkOutcome
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.resources import Took
    from molar_retrieval.workspace.settings import CostSettings

_HOUR = 3600.0


@contextmanager
def billed(place: "Workspace", what: str, costs: "CostSettings", progress: "Progress") -> Iterator["WorkOutcome"]:
    """Write down what is done within in the activity log; tell its bill where there are prices.

    What a signal has ended before is told first.
    """
    for one in killed_last(place):
        progress.note(f"the last `molar {one.what}`, of {one.begun}: {one.outcome}. {one.remedy}")
    with recorded(place, what) as work:
        yield work
    tell(Bill.of(work.took, costs), costs, progress, "it took")


def tell(bill: "Bill", costs: "CostSettings", progress: "Progress", words: str) -> None:
    """Tell a bill where there are prices, after some words."""
    if costs.machine_hour is not None or costs.watts is not None:
        progress.note(f"{words} {bill.words}")


@dataclass(frozen=True)
class Bill:
    """What a run takes.

    Attributes:
        seconds: By the clock.
        processor: Seconds of all processors; None: nobody knows yet.
        watt_hours: Energy, by ``[costs] watts``; None: the settings do not say what the machine draws.
        money: In ``currency``, by ``[costs] machine_hour``; None: these do not say what an hour costs.
        currency: As ``[costs] currency`` has it.
    """

    seconds: float
    processor: float | None
    watt_hours: float | None = None
    money: float | None = None
    currency: str = ""

    @classmethod
    def of(cls, took: "Took", costs: "CostSettings") -> "Bill":
        """The bill by the prices of the settings."""
        return cls.by_clock(took.seconds, costs, round(took.processor, 2))

    @classmethod
    def by_clock(cls, seconds: float, costs: "CostSettings", processor: float | None = None) -> "Bill":
        """The bill of a time by the clock."""
        hours = seconds / _HOUR
        energy = None if costs.watts is None else round(hours * costs.watts, 3)
        money = None if costs.machine_hour is None else round(hours * costs.machine_hour, 6)
        return cls(round(seconds, 2), processor, energy, money, costs.currency)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @property
    def words(self) -> str:
        """The bill in a line: ``4 min, 6 min of the processors, 12 Wh, 0.02 EUR``."""
        told = [duration(self.seconds)]
        if self.processor is not None:
            told.append(f"{duration(self.processor)} of the processors")
        if self.watt_hours is not None:
            told.append(f"{self.watt_hours:.3g} Wh")
        if self.money is not None:
            told.append(f"{self.money:.2g} {self.currency}".rstrip())
        return ", ".join(told)
