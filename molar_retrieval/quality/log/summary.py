"""What a log is like."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from molar_retrieval.quality.histogram import Histogram
from molar_retrieval.quality.log.moments import DAY, written
from molar_retrieval.quality.log.order import OrderTest
from molar_retrieval.quality.log.outlook import SplitOutlook, outlook
from molar_retrieval.quality.log.tally import Tally

_RESOLUTIONS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds"))


@dataclass(frozen=True)
class LogSummary:
    """What a log is like, once rows that cannot be used and duplicates are left out.

    Attributes:
        rows: Rows of the file.
        interactions: Usable ones.
        users: Users with one.
        items: Items with one.
        catalogue_items: Items of the catalogue.
        known_share: Share of the rows, of those that can be read, whose item the catalogue has.
        duplicates: Exact repetitions.
        first: The first time, for people; None: the log has no dates.
        last: The last time.
        days: From the first to the last day, both counted; 0: the log has no dates.
        resolution: How fine the times are: ``days``, ``hours``, ``minutes``, ``seconds`` or ``fractions of a second``;
            None: the log has no times.
        median_history: Interactions of the median user.
        users_with_one: Users with exactly one interaction.
        users_with_two: Users with at least two.
        users_with_five: Users with at least five.
        items_with_five: Items with at least five interactions.
        cold_items: Items of the catalogue without any.
        ties: Share of the steps from one interaction of a user to the next that take no time; 0: no times.
        ties_placed: Share of the steps that take no time but are put in order by a position.
        repeats: Share of the interactions with an item that the user had before.
        repeats_at_once: Share of the steps to the same item.
        order: The shuffled-order test.
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
    order: OrderTest
    split_outlook: tuple[SplitOutlook, ...]
    histograms: tuple[Histogram, ...]

    @property
    def sequential(self) -> bool | None:
        """Whether order matters; None: the log is too small to tell."""
        return self.order.sequential

    @property
    def sequential_words(self) -> str:
        """The same in a sentence."""
        return self.order.words

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["order"] = {**vars(self.order), "words": self.order.words}
        plain["split_outlook"] = [split.to_dict() for split in self.split_outlook]
        plain["histograms"] = [histogram.to_dict() for histogram in self.histograms]
        return plain

    def lines(self) -> list[str]:
        """For people, a sentence each."""
        said = [
            f"{self.interactions:,} interactions of {self.users:,} users with {self.items:,} of "
            f"{self.catalogue_items:,} items"
            + (
                f", {self.first} to {self.last} ({self.days:,} days), times in {self.resolution}."
                if self.first
                else "."
            )
        ]
        said.append(
            f"The median user has {self.median_history:,.0f}; {self.users_with_one:,} users have one, "
            f"{self.users_with_five:,} five or more; {self.items_with_five:,} items have five or more."
        )
        if self.repeats >= 0.01 or self.ties >= 0.01:
            said.append(
                f"{self.ties:.0%} of the steps take no time; {self.repeats:.0%} of the interactions are with an item "
                "that the user had before."
            )
        return [*said, self.order.words]


def summarise(
    tally: Tally,
    order: OrderTest,
    *,
    rows: int,
    known_share: float,
    duplicates: int,
    span: tuple[int, int] | None,
    resolution: str | None,
) -> LogSummary:
    """Put together what was counted.

    Args:
        tally: Counts over all blocks.
        order: The shuffled-order test.
        rows: Rows of the file.
        known_share: Share of the readable rows whose item is known.
        duplicates: Exact repetitions.
        span: The first and last time in microseconds, of a log with dates.
        resolution: How fine its times are.
    """
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
        order=order,
        split_outlook=outlook(tally),
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
    users, items = tally.users[tally.users > 0], tally.items[tally.items > 0]
    found = [
        Histogram.of("history_length", "Interactions of a user", users, "interactions", log=True),
        Histogram.of("popularity", "Interactions of an item", items, "interactions", log=True),
    ]
    calendar = tally.calendar
    if calendar is not None:
        found.append(
            Histogram.of("interactions_per_day", "Interactions on a day", calendar.interactions, "interactions")
        )
    return tuple(found)
