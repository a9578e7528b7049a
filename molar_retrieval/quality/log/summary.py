"""What a log is like."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from molar_retrieval.interactions.times import written
from molar_retrieval.quality.collector import Collector
from molar_retrieval.quality.histogram import Histogram
from molar_retrieval.quality.log.moments import DAY
from molar_retrieval.quality.log.tally import Tally

SHARES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99)
"""Shares of the log that lie before the dates at which splits are tried."""
TIES = 0.05  # From this share of steps without an order on it is worth a finding
REPEATS = 0.05  # From this share of interactions with an item of before on
_RESOLUTIONS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds"))


@dataclass(frozen=True)
class SplitOutlook:
    """A split: interactions before midnight (UTC) of a date are trained on, those after it are the test.

    ``users`` have interactions both before and after, and can be tested on; new users and cold items come only after;
    ``cold_share`` of the test's interactions are with these items.
    """

    date: str
    train: int
    test: int
    users: int
    new_users: int
    cold_items: int
    cold_share: float


@dataclass(frozen=True)
class LogSummary:
    """What a log is like, once rows that cannot be used and duplicates are left out.

    Attributes:
        rows: Rows of the file.
        interactions: Usable ones; each of the ``users`` and ``items`` has one.
        known_share: Share of the rows, of those that can be read, whose item the catalogue has.
        duplicates: Exact repetitions.
        first: The first time, for people; None: the log has no dates.
        days: From the first to the last day, both counted; 0: the log has no dates.
        resolution: How fine the times are: ``days``, ``hours``, ``minutes``, ``seconds`` or ``fractions of a second``;
            None: the log has no times.
        median_history: Interactions of the median user.
        users_with_one: Users with exactly one interaction; the others have at least so many.
        cold_items: Items of the catalogue without any.
        ties: Share of the steps from one interaction of a user to the next that take no time; 0: no times.
        ties_placed: Share of the steps that take no time but are put in order by a position.
        repeats: Share of the interactions with an item that the user had before.
        repeats_at_once: Share of the steps to the same item.
        split_outlook: What splits at some dates would leave.
        histograms: ``history_length``, ``popularity`` and, with dates, ``interactions_per_day``.
    """

    rows: int
    interactions: int
    users: int
    items: int
    catalogue_items: int
    known_share: float
    duplicates: int
    first: str | None
    last: str | None
    days: int
    resolution: str | None
    median_history: float
    users_with_one: int
    users_with_two: int
    users_with_five: int
    items_with_five: int
    cold_items: int
    ties: float
    ties_placed: float
    repeats: float
    repeats_at_once: float
    split_outlook: tuple[SplitOutlook, ...]
    histograms: tuple[Histogram, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return vars(self) | {
            "split_outlook": [asdict(split) for split in self.split_outlook],
            "histograms": [histogram.to_dict() for histogram in self.histograms],
        }

    def lines(self) -> list[str]:
        """For people, a sentence each."""
        when = f", {self.first} to {self.last} ({self.days:,} days), times in {self.resolution}" if self.first else ""
        said = [
            f"{self.interactions:,} interactions of {self.users:,} users with {self.items:,} of "
            f"{self.catalogue_items:,} items{when}.",
            f"The median user has {self.median_history:,.0f}; {self.users_with_one:,} users have one, "
            f"{self.users_with_five:,} five or more; {self.items_with_five:,} items have five or more.",
        ]
        if self.repeats >= 0.01 or self.ties >= 0.01:
            said.append(
                f"{self.ties:.0%} of the steps take no time; {self.repeats:.0%} of the interactions are with an item "
                "that the user had before."
            )
        return said


def summarise(
    tally: Tally,
    span: tuple[int, int] | None,
    resolution: str | None,
    *,
    rows: int,
    known_share: float,
    duplicates: int,
) -> LogSummary:
    """Put together what was counted; ``span``: the first and last time in microseconds, of a log with dates."""
    users, steps = tally.users[tally.users > 0], max(tally.steps, 1)
    return LogSummary(
        rows=rows,
        interactions=int(users.sum()),
        users=len(users),
        items=int((tally.items > 0).sum()),
        catalogue_items=len(tally.items),
        known_share=known_share,
        duplicates=duplicates,
        first=None if span is None else written(span[0] // DAY * DAY),
        last=None if span is None else written(span[1] // DAY * DAY),
        days=0 if span is None else span[1] // DAY - span[0] // DAY + 1,
        resolution=resolution,
        median_history=float(np.median(users)) if len(users) else 0.0,
        users_with_one=int((users == 1).sum()),
        users_with_two=int((users >= 2).sum()),
        users_with_five=int((users >= 5).sum()),
        items_with_five=int((tally.items >= 5).sum()),
        cold_items=int((tally.items == 0).sum()),
        ties=tally.ties / steps,
        ties_placed=tally.placed / steps,
        repeats=tally.again / max(int(users.sum()), 1),
        repeats_at_once=tally.again_at_once / steps,
        split_outlook=tuple(_outlook(tally)),
        histograms=_histograms(tally),
    )


def resolution_of(micros: np.ndarray) -> str:
    """The coarsest unit of which all times are multiples."""
    for seconds, name in _RESOLUTIONS:
        unit = seconds * 1_000_000
        if not (micros[: 1 << 16] % unit).any() and not (micros % unit).any():
            return name
    return "fractions of a second"


def _histograms(tally: Tally) -> tuple[Histogram, ...]:
    counted = [
        ("history_length", "Interactions of a user", tally.users[tally.users > 0], True),
        ("popularity", "Interactions of an item", tally.items[tally.items > 0], True),
    ]
    if tally.calendar is not None:
        counted.append(("interactions_per_day", "Interactions on a day", tally.calendar.interactions, False))
    return tuple(Histogram.of(name, title, values, "interactions", log=log) for name, title, values, log in counted)


def _outlook(tally: Tally) -> Iterator[SplitOutlook]:
    """Splits at up to ten dates; every day but the first where there are no more."""
    calendar = tally.calendar
    if calendar is None or not calendar.interactions.any():
        return
    before = np.concatenate([[0], np.cumsum(calendar.interactions)])
    total, days = int(before[-1]), len(calendar.interactions)
    tried = np.arange(1, days) if days <= len(SHARES) else np.searchsorted(before, np.array(SHARES) * total)
    users_first, users_last = np.sort(tally.users_first[tally.users > 0]), np.sort(tally.users_last[tally.users > 0])
    taken = tally.items > 0
    order = np.argsort(tally.items_first[taken])
    items_first = tally.items_first[taken][order]
    after = np.append(np.cumsum(tally.items[taken][order][::-1])[::-1], 0)  # interactions of this and all later items
    for day in np.unique(tried[(tried > 0) & (tried < days)]).tolist():
        moment = (calendar.first + day) * DAY
        gone, came = np.searchsorted(users_last, moment), np.searchsorted(users_first, moment)
        warm, test = int(np.searchsorted(items_first, moment)), total - int(before[day])
        if test:
            yield SplitOutlook(
                date=calendar.day(day),
                train=int(before[day]),
                test=test,
                users=int(came - gone),
                new_users=int(len(users_first) - came),
                cold_items=len(items_first) - warm,
                cold_share=min(int(after[warm]) / test, 1.0),
            )


def tell_shares(summary: LogSummary, file: str, found: Collector) -> None:
    """Report shares of ties, of repeated consumption, of users with one interaction and of cold items."""

    def tell(kind: str, share: float, detail: str, **count: int) -> None:
        found.add(kind, detail, file=file, amount=share, facts={"share": share, **count})

    if summary.ties >= TIES:
        placed = f"; a position orders {summary.ties_placed / summary.ties:.0%} of them" if summary.ties_placed else ""
        tell("log.ties", summary.ties, f"{summary.ties:.0%} of the steps from one to the next take no time{placed}")
    if summary.repeats >= REPEATS:
        again = f"{summary.repeats:.0%} of the interactions are with an item that the user had before"
        tell("log.repeats", summary.repeats, f"{again}, {summary.repeats_at_once:.0%} with the one just before")
    for kind, count, total, what in (
        ("log.one_event_users", summary.users_with_one, summary.users, "users"),
        ("log.cold_items", summary.cold_items, summary.catalogue_items, "items"),
    ):
        if count:
            tell(kind, count / total, f"{count:,} of {total:,} {what} ({count / total:.0%})", count=count)
