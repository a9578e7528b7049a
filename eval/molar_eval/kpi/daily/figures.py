"""The figures of a day, and of several days together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date, timedelta
from typing import Any, Self

HOLDOUT = "holdout"
"""The arm of an experiment whose people see no lists of molar."""


class _Sums:
    """Counts that are added name by name."""

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """All of them together."""
        found = list(parts)
        return cls(**{one.name: sum(getattr(part, one.name) for part in found) for one in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Outcomes(_Sums):
    """What people did with items, by lines of the log.

    Attributes:
        looks: Clicks and views.
        carts: What was put into a cart.
        purchases: What was bought, a line for each item of an order.
        revenue: Sum of the values of these, in the shop's currency; returns are not taken off.
        priced: Purchases that have a value.
    """

    looks: int = 0
    carts: int = 0
    purchases: int = 0
    revenue: float = 0.0
    priced: int = 0


@dataclass(frozen=True)
class PlacementFigures:
    """Lists of one placement, and what is attributed to them.

    Attributes:
        lists: Lists that were shown.
        places: Items on them.
        used: Lists of which something was looked at, put into a cart or bought on the day itself.
        attributed: What people did with what these lists showed, whenever the list was shown.
    """

    lists: int = 0
    places: int = 0
    used: int = 0
    attributed: Outcomes = Outcomes()

    @classmethod
    def total(cls, parts: Iterable["PlacementFigures"]) -> "PlacementFigures":
        """All of them together."""
        found = list(parts)
        counts = {name: sum(getattr(part, name) for part in found) for name in ("lists", "places", "used")}
        return cls(**counts, attributed=Outcomes.total(part.attributed for part in found))


@dataclass(frozen=True)
class ArmFigures(_Sums):
    """People of one arm of an experiment; whoever has two on a day is in none.

    Attributes:
        people: Who came; over several days, each counts once a day.
        buyers: Who of them bought something.
        purchases: What they bought.
        revenue: For how much.
    """

    people: int = 0
    buyers: int = 0
    purchases: int = 0
    revenue: float = 0.0


@dataclass(frozen=True)
class DayFigures:
    """What the event log says of a day (UTC), or of several days together.

    Attributes:
        day: Days since 1970; of several days, the first.
        people: Who came: users, or sessions that are no user's; over several days, each counts once a day.
        buyers: Who of them bought something.
        everything: What people did, however they came to it.
        returns: What came back.
        placements: Lists and what is attributed to them, by the placement where one is known, else under ``""``.
        arms: People by the arm of an experiment.
    """

    day: int
    people: int = 0
    buyers: int = 0
    everything: Outcomes = Outcomes()
    returns: int = 0
    placements: Mapping[str, PlacementFigures] = field(default_factory=dict)
    arms: Mapping[str, ArmFigures] = field(default_factory=dict)

    @property
    def date(self) -> date:
        """The day."""
        return date(1970, 1, 1) + timedelta(days=self.day)

    @property
    def shown(self) -> PlacementFigures:
        """All lists, wherever they were shown."""
        return PlacementFigures.total(self.placements.values())

    @property
    def is_empty(self) -> bool:
        """Whether nobody came and nothing was shown."""
        return not self.people

    @classmethod
    def total(cls, days: Iterable["DayFigures"]) -> "DayFigures":
        """Several days together."""
        found = list(days)
        counts = {name: sum(getattr(day, name) for day in found) for name in ("people", "buyers", "returns")}
        everything = Outcomes.total(day.everything for day in found)
        placements = {k: PlacementFigures.total(v) for k, v in _by_name(day.placements for day in found).items()}
        arms = {k: ArmFigures.total(v) for k, v in _by_name(day.arms for day in found).items()}
        first = min((day.day for day in found), default=0)
        return cls(first, **counts, everything=everything, placements=placements, arms=arms)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def of_dict(cls, told: Mapping[str, Any]) -> Self:
        """From what :meth:`to_dict` gave; a TypeError or KeyError where it is something else."""
        placements = {
            name: PlacementFigures(**{**one, "attributed": Outcomes(**one["attributed"])})
            for name, one in told["placements"].items()
        }
        arms = {name: ArmFigures(**one) for name, one in told["arms"].items()}
        return cls(**{**told, "everything": Outcomes(**told["everything"]), "placements": placements, "arms": arms})


def _by_name(tables: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for table in tables:
        for name, one in table.items():
            found[name].append(one)
    return dict(sorted(found.items()))
