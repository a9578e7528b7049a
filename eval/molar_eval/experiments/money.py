"""What an experiment brings and costs."""

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.activity_log import work_done

if TYPE_CHECKING:
    from molar_retrieval.workspace.artefacts import Workspace


DAYS_OF_MONTH = 365.25 / 12
Unknown = Literal["revenue", "margin", "machine_hour", "training"]
Outcome = Literal["brings", "loses", "open", "unknown"]
TRAINING = ("embed", "finetune", "align", "update")
"""Commands of the work log by which a shop's lists are made and kept up to date; what proves them is not among them."""
_HOUR = 3600.0
_LONGEST = 104  # weeks to come of which something may be said
_MOST = 10_000  # lines of the work log, more than it keeps


@dataclass(frozen=True)
class MeasuredWork:
    """What training and updates took, by the work log.

    Attributes:
        seconds: By the clock, of all that came to an end of its own.
        works: How many these are.
        killed: How many others were killed: what these took nobody knows.
    """

    seconds: float
    works: int
    killed: int


@dataclass(frozen=True)
class Money:
    """What a change brings a month, and what it costs; None: it is not known, see ``unknown``.

    Attributes:
        month_low: Lower end of the interval of the additional margin a month.
        month: Its estimate.
        month_high: Upper end.
        machine: A month of the machine that answers, trains and updates.
        training: What training and updates took so far, at the price of that machine; 0: the change takes none.
        training_hours: The same in hours.
        shared: Whether the machine runs in either arm, so that the change is not charged with it.
        payback_low: Months until training is paid back, if the change brings ``month_high``; None: never.
        payback_high: The same if it brings ``month_low``.
        weeks_more: Weeks until it can be told whether the change brings more than it costs, with 80 % certainty, if
            the difference stays as it is; 0: it can be told now. None: not within two years.
        currency: What amounts are in; empty: nobody said.
        unknown: What is not known: ``revenue`` (no purchase says what was paid, or too few came), ``margin``,
            ``machine_hour``, ``training`` (the log of work has none).
    """

    month_low: float | None
    month: float | None
    month_high: float | None
    machine: float | None
    training: float | None
    training_hours: float
    shared: bool
    payback_low: float | None
    payback_high: float | None
    weeks_more: int | None
    currency: str
    unknown: tuple[Unknown, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @property
    def charged(self) -> float:
        """What the change has to bring a month before it brings anything: the machine, unless it runs anyway."""
        return 0.0 if self.shared else self.machine or 0.0

    @property
    def outcome(self) -> Outcome:
        """Whether it brings more than the machine costs, less, or cannot be told apart from that."""
        if self.month_low is None or self.month_high is None:
            return "unknown"
        return "brings" if self.month_low > self.charged else "loses" if self.month_high < self.charged else "open"


def money_of(
    difference: tuple[float, float, float] | None,
    work: MeasuredWork | None,
    *,
    people: int,
    share: float,
    days: float,
    margin: float | None,
    machine_hour: float | None,
    currency: str = "",
    shared: bool = True,
) -> Money:
    """Reckon what a change brings a month once everybody has it.

    The difference per person of the time looked at is that of a month by the people who came in it: as many, for the
    days of a month, as were counted, divided by their share of all who would have it.

    Args:
        difference: In revenue per person between the arms: lower end of its interval, estimate, upper end; None: there
            is none.
        work: What training and updates took so far; None: the change takes none.
        people: Who were compared, of both arms together.
        share: Which share they are of all people who would have the change, in (0, 1].
        days: In how many days they came.
        margin: The share of revenue that stays, in [0, 1]; None: nobody said.
        machine_hour: What an hour of the machine costs; None: nobody said.
        currency: What that and the revenue are in.
        shared: Whether the machine runs without the change as well.

    Raises:
        SettingsError: If one of them has no meaning.
    """
    _check(people, share, days, margin, machine_hour)
    known = difference if difference is not None and days > 0 and all(map(math.isfinite, difference)) else None
    missing: dict[Unknown, bool] = {
        "revenue": known is None,
        "margin": margin is None,
        "machine_hour": machine_hour is None,
        "training": work is not None and not work.works,
    }
    month: tuple[float | None, ...] = (None, None, None)
    if known is not None and margin is not None:
        month = tuple(margin * people / share * DAYS_OF_MONTH / days * one for one in known)
    hours = 0.0 if work is None else work.seconds / _HOUR
    machine = None if machine_hour is None else machine_hour * 24 * DAYS_OF_MONTH
    training = None if machine_hour is None or missing["training"] else machine_hour * hours
    charged = 0.0 if shared else machine or 0.0
    low, middle, high = month
    return Money(
        low, middle, high, machine, training, hours, shared,
        payback_low=payback(training, high, charged),
        payback_high=payback(training, low, charged),
        weeks_more=_weeks(month, charged, days),
        currency=currency,
        unknown=tuple(name for name, is_missing in missing.items() if is_missing),
    )  # fmt: skip


def payback(cost: float | None, month: float | None, charged: float = 0.0) -> float | None:
    """Months until so much is back, of what is left each month; None: never, or one of both is not known."""
    if cost is None or month is None or month <= charged:
        return None
    return cost / (month - charged)


def training_work(workspace: "Workspace", since: int, until: int) -> MeasuredWork:
    """What training and updates took in a workspace that ended between two moments, microseconds since 1970.

    Each command is one work with all its steps; one that failed has cost what it took.
    """
    begin, end = (datetime.fromtimestamp(moment / 1e6, UTC) for moment in (since, until))
    seconds, works, killed = 0.0, 0, 0
    for one in work_done(workspace, _MOST):
        if one.what not in TRAINING:
            continue
        if one.ended is not None and begin <= one.ended <= end:
            seconds, works = seconds + (one.seconds or 0.0), works + 1
        killed += one.state == "killed" and begin <= datetime.fromisoformat(one.begun) <= end
    return MeasuredWork(seconds, works, killed)


def weeks_until_seen(low: float, middle: float, high: float, days: float, at: float = 0.0) -> int | None:
    """Weeks until an interval leaves ``at`` out with 80 % certainty, as it gets narrower with the root of time.

    Args:
        low: Its lower end after so many days.
        middle: The estimate, which is taken to stay.
        high: Its upper end.
        days: Above 0.
        at: What is to be left out.

    Returns:
        0: it does already. None: not within two years.
    """
    if low > at or high < at:
        return 0
    weeks, away = days / 7, abs(middle - at)
    half = (middle - low if middle > at else high - middle) * _CERTAIN
    if away * math.sqrt((_LONGEST + weeks) / weeks) < half:
        return None
    return max(1, math.ceil(weeks * ((half / away) ** 2 - 1)))


def _weeks(month: tuple[float | None, ...], charged: float, days: float) -> int | None:
    low, middle, high = month
    if low is None or middle is None or high is None:
        return None
    return weeks_until_seen(low, middle, high, days, charged)


_CERTAIN = 1 + NormalDist().inv_cdf(0.8) / NormalDist().inv_cdf(0.975)
"""How far from 0, in half widths of a 95 % interval, a difference has to be to be seen with a certainty of 80 %."""


def _check(people: int, share: float, days: float, margin: float | None, machine_hour: float | None) -> None:
    if not 0 < share <= 1:
        raise SettingsError(f"the share is {share:g}", "give the share of people compared, above 0 and at most 1")
    if people < 0 or not (math.isfinite(days) and days >= 0):
        raise SettingsError(f"{people:,} people came in {days:g} days", "give numbers of 0 or more")
    if margin is not None and not 0 <= margin <= 1:
        raise SettingsError(
            f"the margin is {margin:g}", "give the share of revenue that stays, from 0 to 1: 0.3 is 30 %"
        )
    if machine_hour is not None and not (math.isfinite(machine_hour) and machine_hour >= 0):
        raise SettingsError(f"an hour of the machine costs {machine_hour:g}", "give an amount of 0 or more")
