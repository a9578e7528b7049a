"""How people of the demo shop respond to a list, and what is to be expected of them: the truth of an experiment.

They look from the first place downwards, click what they like nearly as well as anything, and buy some of it. What
comes of a list on average is therefore known exactly, without a draw.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BEST = 0.99
"""The quantile of what somebody likes that counts as what they like best."""


@dataclass(frozen=True)
class ShoppingHabits:
    """What people of the demo do, whatever they like.

    Attributes:
        coming: Share of the people who come on a day.
        on: How often somebody who looks at a place looks at the next one.
        click: How often somebody clicks what they like as well as anything.
        warmth: The larger, the more is clicked that they like less.
        buy: How often they buy what they clicked.
        own: How often they buy something that they came for.
        fame: How much an item's popularity counts in what is clicked; at 1 as much as in what they come for. Who has
            seen what everybody buys clicks by taste.
    """

    coming: float = 0.08
    on: float = 0.9
    click: float = 0.5
    warmth: float = 2.0
    buy: float = 0.4
    own: float = 0.5
    fame: float = 1.0

    def clicks(self, likes: Floats, best: float) -> Floats:
        """How likely items are clicked by somebody who looks at them, by how much they are liked, and what is best."""
        chances: Floats = self.click * np.minimum(1.0, np.exp((likes - best) / self.warmth))
        return chances


PICKY = ShoppingHabits(coming=0.1, own=0.05, fame=0.25, warmth=0.7)
"""Of people who buy little of their own accord and click what they like most: it matters what they are shown."""


@dataclass(frozen=True)
class ExpectedVisit:
    """What comes of a visit on average.

    Attributes:
        clicks: How many.
        converted: How likely anything is bought.
        revenue: What is spent.
    """

    clicks: float
    converted: float
    revenue: float


def expected_visit(
    habits: ShoppingHabits, clicks: Floats, prices: Floats, buyable: npt.NDArray[np.bool_], own: tuple[float, float]
) -> ExpectedVisit:
    """What comes of a list on average.

    Args:
        habits: Of the people.
        clicks: How likely each of its n items is clicked by somebody who looks at it, first place first, (n,).
        prices: Of the items, (n,).
        buyable: Which of them can be had and were not bought before, (n,).
        own: How likely something is bought that is not from the list, and its price on average.
    """
    looked = habits.on ** np.arange(len(clicks))
    buys = habits.buy * clicks * buyable
    nothing = 1.0
    for chance in buys[::-1].tolist():
        nothing = (1 - chance) * (1 - habits.on + habits.on * nothing)
    return ExpectedVisit(
        clicks=float(looked @ clicks),
        converted=1 - nothing * (1 - own[0]),
        revenue=float(looked @ (buys * prices)) + own[0] * own[1],
    )


@dataclass(frozen=True)
class ExpectedPerson:
    """What somebody does in some time on average; fields as of a visit, and visits are independent."""

    clicks: float
    converted: float
    revenue: float

    @classmethod
    def of(cls, visits: Iterable[ExpectedVisit]) -> "ExpectedPerson":
        """By their visits."""
        clicks, nothing, revenue = 0.0, 1.0, 0.0
        for visit in visits:
            clicks, revenue = clicks + visit.clicks, revenue + visit.revenue
            nothing *= 1 - visit.converted
        return cls(clicks, 1 - nothing, revenue)
