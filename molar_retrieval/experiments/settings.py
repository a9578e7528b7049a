"""Settings of experiments, the section ``[experiments]`` of ``molar.toml``."""

from pydantic import Field

from molar_retrieval.settings import Settings


class ExperimentSettings(Settings):
    """``[experiments]``: who takes part in none, and what happens by itself."""

    holdout: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="share of the people who take part in no experiment, and keep what was before one that reaches all",
    )
    automatic: bool = Field(True, description="whether an experiment that does harm goes back by itself")
    watch: float = Field(30, ge=1, le=3_600, description="seconds between two looks of the server at what runs")
    shadow: float = Field(
        1.0, gt=0, le=100, description="lists a second, at most, that both arms rank while nobody sees the new one"
    )
