"""What a split of the log at a date would leave to train and to test on."""

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from molar_retrieval.quality.log.moments import DAY
from molar_retrieval.quality.log.tally import Tally

SHARES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99)
"""Shares of the log that lie before the dates which are tried."""


@dataclass(frozen=True)
class SplitOutlook:
    """A split: interactions before midnight (UTC) of a date are trained on, those after it are the test.

    Attributes:
        date: The first day of the test, as in ``2024-05-01``.
        train: Interactions before.
        test: Interactions from then on.
        users: Users with interactions both before and after, who can be tested on.
        new_users: Users who come only after.
        cold_items: Items that come only after.
        cold_share: Share of the test's interactions that are with these.
    """

    date: str
    train: int
    test: int
    users: int
    new_users: int
    cold_items: int
    cold_share: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def outlook(tally: Tally) -> tuple[SplitOutlook, ...]:
    """Splits at up to ten dates; every day but the first where there are no more."""
    calendar = tally.calendar
    if calendar is None or not calendar.interactions.any():
        return ()
    before = np.concatenate([[0], np.cumsum(calendar.interactions)])
    total, days = int(before[-1]), len(calendar.interactions)
    tried = np.arange(1, days) if days <= len(SHARES) else np.searchsorted(before, np.array(SHARES) * total)
    users_first, users_last = np.sort(tally.users_first[tally.users > 0]), np.sort(tally.users_last[tally.users > 0])
    taken = tally.items > 0
    order = np.argsort(tally.items_first[taken])
    items_first = tally.items_first[taken][order]
    after = np.append(np.cumsum(tally.items[taken][order][::-1])[::-1], 0)  # interactions of this and all later items
    found = []
    for day in np.unique(tried[(tried > 0) & (tried < days)]).tolist():
        moment = (calendar.first + day) * DAY
        gone, came = np.searchsorted(users_last, moment), np.searchsorted(users_first, moment)
        warm, test = int(np.searchsorted(items_first, moment)), total - int(before[day])
        if test:
            found.append(
                SplitOutlook(
                    date=(date(1970, 1, 1) + timedelta(days=calendar.first + day)).isoformat(),
                    train=int(before[day]),
                    test=test,
                    users=int(came - gone),
                    new_users=int(len(users_first) - came),
                    cold_items=len(items_first) - warm,
                    cold_share=min(int(after[warm]) / test, 1.0),
                )
            )
    return tuple(found)
