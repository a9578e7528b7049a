"""What the overview tells of the days: figures of this week and the one before, what lists had to do with it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from molar_eval.kpi.daily.attribution import DayFacts
from molar_eval.kpi.daily.exposure import CatalogueExposure, ItemsTaken, exposure, items_taken
from molar_eval.kpi.daily.figures import HOLDOUT, ArmFigures, DayFigures
from molar_eval.kpi.daily.record import daily
from molar_eval.statistics.bootstrap import ConfidenceInterval
from molar_eval.statistics.proportions import difference_of_shares, share_interval
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.studio.condition import last_day

WEEK, SHOWN = 7, 28
"""Days that are compared with as many before, and days of the charts."""


@dataclass(frozen=True)
class ShareOfDays:
    """So many of so many, with a 95 % interval; ``interval`` is None where there are none."""

    part: int
    whole: int
    interval: ConfidenceInterval | None

    @classmethod
    def of(cls, part: int, whole: int) -> "ShareOfDays":
        """With its interval."""
        return cls(part, whole, share_interval(min(part, whole), whole))


@dataclass(frozen=True)
class HoldoutFigures:
    """People who see no lists, compared with all others of the experiment, by the share who bought something.

    Attributes:
        without: Those in the arm ``holdout``.
        others: All others of whom an arm is known.
        gap: The share of the others minus that of the holdout, with its interval.
    """

    without: ShareOfDays
    others: ShareOfDays
    gap: ConfidenceInterval | None

    @property
    def tells(self) -> bool:
        """Whether the interval leaves out that there is no difference."""
        return self.gap is not None and not self.gap.low <= 0 <= self.gap.high


@dataclass(frozen=True)
class Trade:
    """Figures for the overview.

    Attributes:
        days: 28 days, the last one today, or where the log ends.
        week: The last seven of them together.
        before: The seven before these.
        spread: How this week's places went over the catalogue; None: no update has counted anything yet.
        spread_before: The same of the week before.
    """

    days: tuple[DayFigures, ...]
    week: DayFigures
    before: DayFigures
    spread: CatalogueExposure | None
    spread_before: CatalogueExposure | None

    @property
    def times(self) -> list[int]:
        """When each day begins, in seconds since 1970."""
        return [day.day * 86_400 for day in self.days]

    @property
    def ended(self) -> int | None:
        """When the last day begins, in seconds since 1970, if it is long ago; None: it is today, or lately."""
        last = self.times[-1]
        return last if last < time.time() - SHOWN * 86_400 else None

    @property
    def has_values(self) -> bool:
        """Whether a purchase says what was paid."""
        return any(day.everything.priced for day in self.days)

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened in these days."""
        return all(day.is_empty for day in self.days)

    @property
    def holdout(self) -> HoldoutFigures | None:
        """What an experiment with a holdout says of these 28 days; None: there is none."""
        arms = DayFigures.total(self.days).arms
        if HOLDOUT not in arms or len(arms) == 1:
            return None
        one = arms[HOLDOUT]
        rest = ArmFigures.total(arm for name, arm in arms.items() if name != HOLDOUT)
        gap = difference_of_shares((rest.buyers, rest.people), (one.buyers, one.people))
        return HoldoutFigures(ShareOfDays.of(one.buyers, one.people), ShareOfDays.of(rest.buyers, rest.people), gap)


def latest_trade(workspace: Workspace) -> Trade:
    """The figures up to today, or up to where a log ends that ended long ago."""
    return trade(workspace, last_day(workspace, SHOWN))


def trade(workspace: Workspace, today: int) -> Trade:
    """The figures of the days up to one, in days since 1970."""
    facts = daily(workspace, SHOWN, today)
    taken = _taken(workspace)
    week, before = facts[-WEEK:], facts[-2 * WEEK : -WEEK]
    spread = [None if taken is None else exposure(one, taken) for one in (week, before)]
    return Trade(
        days=tuple(one.figures for one in facts),
        week=_total(week),
        before=_total(before),
        spread=spread[0],
        spread_before=spread[1],
    )


def _total(facts: Sequence[DayFacts]) -> DayFigures:
    return DayFigures.total(one.figures for one in facts)


def _taken(workspace: Workspace) -> ItemsTaken | None:
    versions = workspace["catalogue"].current, workspace["interactions"].current
    return None if None in versions else _taken_of(workspace.root, versions)


@lru_cache(maxsize=2)
def _taken_of(root: Path, versions: tuple[Path | None, ...]) -> ItemsTaken | None:
    """Kept by the versions that it is of."""
    return items_taken(Workspace(root))
