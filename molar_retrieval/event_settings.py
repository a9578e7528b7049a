"""Settings of the log of events, the section ``[events]`` of ``molar.toml``."""

from typing import Annotated

from pydantic import Field, field_validator

from molar_retrieval.presets import EVENT_WEIGHTS
from molar_retrieval.settings import Settings


class EventSettings(Settings):
    """``[events]``: which events make histories, and how long the log keeps them."""

    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        None,
        description="how much each kind counts: purchase, rating, add_to_cart, click, view; what is not named, not at"
        " all; None: validation chooses",
    )
    keep_days: int | None = Field(None, ge=1, le=36_500, description="days before today that the log keeps; None: all")
    late_days: float | None = Field(
        None,
        gt=0,
        le=36_500,
        description="days after its time that an event is still taken; None: however late it comes",
    )

    @field_validator("weights")
    @classmethod
    def _kinds(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and (wrong := [kind for kind in value if kind not in EVENT_WEIGHTS]):
            raise ValueError(f"{wrong[0]} makes no history; kinds that do are {', '.join(EVENT_WEIGHTS)}")
        if value is not None and not any(value.values()):
            raise ValueError("at least one kind must count")
        return value
