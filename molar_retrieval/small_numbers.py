"""Small numbers: what rests on fewer people than the settings ask for is left out of what is counted and published.

A pair of items that one person alone has had says what this person took, wherever it is kept: in a score, a table, a
reason. With ``[privacy] least`` no pair and no popularity rests on fewer people. That is no formal guarantee: who makes
accounts of their own, or compares two states, can still learn of somebody.
"""

from pydantic import Field

from molar_retrieval.settings import Settings

USUAL, FROM = 5, 5_000
"""Fewest people where nothing is said, in logs of so many people or more; in smaller ones it would cost too much."""


class PrivacySettings(Settings):
    """``[privacy]``: what of people is left out."""

    least: int | None = Field(
        None,
        ge=1,
        le=1_000,
        description="fewest people on whom a pair of items or an item's popularity may rest; 1: anybody; None: 5 in a"
        " log of 5,000 people or more, else 1",
    )

    def fewest(self, people: int) -> int:
        """The fewest people in a log of so many."""
        if self.least is not None:
            return self.least
        return USUAL if people >= FROM else 1
