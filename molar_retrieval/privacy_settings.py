"""Settings of privacy, the section ``[privacy]`` of ``molar.toml``.

**Ids.** With ``ids = "pseudonymous"`` a workspace stores pseudonyms in place of the ids that a shop gives its people,
see :mod:`molar_retrieval.privacy.pseudonyms`.

**Small numbers.** A pair of items that one person alone has had says what this person took, wherever it is kept: in a
score, a table, a reason. With ``min_users`` no pair and no popularity rests on fewer people. That is no formal
guarantee: who makes accounts of their own, or compares two states, can still learn of somebody.

**Noise.** With ``epsilon`` all that is learned of other people comes from statistics with noise: differential privacy,
which is such a guarantee. See :mod:`molar_retrieval.statistics`.
**Retention.** ``retention_days`` is about what is read of people, ``copy_retention_days`` about what lies beside that.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from molar_retrieval.settings import Settings, trusted

USUAL, FROM = 5, 5_000
"""Fewest people where nothing is said, in logs of so many people or more; in smaller ones it would cost too much."""


class PrivacySettings(Settings):
    """``[privacy]``: by what people are known, and what of them is left out."""

    ids: Literal["plain", "pseudonymous"] = Field(
        "plain",
        description="ids of users in the workspace: plain, as the shop gives them, or pseudonymous",
    )
    key_file: Path | None = Field(
        None,
        description="keys of the pseudonyms, in a file outside workspace and catalogue; made where there is none",
        json_schema_extra=trusted(),
    )
    suppressed_file: Path | None = Field(
        None,
        description="list of the people who are forgotten or object, outside of the workspace and its backups;"
        " None: suppressed.json in the workspace",
        json_schema_extra=trusted(),
    )
    min_users: int | None = Field(
        None,
        ge=1,
        le=1_000,
        description="fewest people on whom a pair of items or an item's popularity may rest; 1: anybody; None: 5 in a"
        " log of 5,000 people or more, else 1",
    )

    epsilon: float | None = Field(
        None,
        ge=0,
        le=100,
        description="align on one release of statistics with noise, (epsilon, delta)-differentially private for each"
        " person; the smaller, the less it tells of anybody; None: without noise; 0: so on purpose, where it was with",
    )
    delta: float = Field(
        1e-6, gt=0, le=1e-3, description="by how much the promise may fail; far less than one in as many people"
    )
    yearly_epsilon: float = Field(8.0, gt=0, le=1_000, description="epsilon that the releases of 365 days may take")
    retention_days: int | None = Field(
        None, ge=1, le=36_500, description="days before today of which interactions are read; None: all"
    )
    copy_retention_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="days that copies stay: what evaluations keep, unfinished work, older generations; None: no end",
    )

    @model_validator(mode="after")
    def _key_is_somewhere(self) -> Self:
        if self.ids == "pseudonymous" and self.key_file is None:
            raise ValueError("ids = 'pseudonymous' needs key_file, a file outside workspace and catalogue")
        return self

    @property
    def with_noise(self) -> bool:
        """Whether what is learned of people comes from statistics with noise."""
        return bool(self.epsilon)

    def fewest(self, people: int) -> int:
        """The fewest people in a log of so many."""
        if self.min_users is not None:
            return self.min_users
        return USUAL if people >= FROM else 1
