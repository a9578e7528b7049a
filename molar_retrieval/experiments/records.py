"""What is written down of an experiment, row by row. Moments are microseconds since 1970."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from molar_retrieval.experiments.definition import Experiment, Stage

EDGES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000, 5000)
"""Upper edges of the histogram of milliseconds that answers took; what is above the last one is counted behind it."""


@dataclass(frozen=True)
class StageRow:
    """A stage that an experiment has reached: which, since when (microseconds since 1970), why, and by whom."""

    number: int
    stage: Stage
    begun: int
    why: str
    by: str
    automatic: bool


@dataclass(frozen=True)
class Running:
    """An experiment and the stage it is in."""

    experiment: Experiment
    stage: StageRow


@dataclass(frozen=True)
class Assignment:
    """That a unit has an arm.

    Attributes:
        experiment: Its name.
        unit: A person's key, or a block of time.
        arm: ``control`` or ``treatment``.
        first: When the unit was first seen, in microseconds since 1970.
        source: ``hash``; ``elsewhere``; or ``session``, of whom the arm of their session is kept.
    """

    experiment: str
    unit: str
    arm: str
    first: int
    source: str = "hash"


@dataclass(frozen=True)
class ServedRow:
    """Answers of one arm in a minute (since 1970): how many, and the milliseconds that they took by :data:`EDGES`."""

    arm: str
    minute: int
    answers: int
    errors: int
    empty: int
    late: int
    milliseconds: Sequence[int]


@dataclass(frozen=True)
class ShadowRow:
    """A request that both arms ranked: what both lists share of their first ten, and what each was like.

    Prices are means of the list; None: no item has one.
    """

    at: int
    overlap: float
    control_ms: float
    treatment_ms: float
    control_error: bool = False
    treatment_error: bool = False
    control_empty: bool = False
    treatment_empty: bool = False
    control_price: float | None = None
    treatment_price: float | None = None


@dataclass(frozen=True)
class Look:
    """One look at an experiment, and what it decided.

    Attributes:
        number: From 1.
        at: When, in microseconds since 1970.
        stage: In which stage.
        metric: The figure.
        information: The share of the planned information that there was.
        spent: How much of alpha was spent, this look included.
        statistic: The standardised difference; None: it could not be told.
        bound: What it had to be beyond.
        decision: ``on``, ``back``, ``wait`` or ``stop``.
        facts: What else is to be known of it, for JSON.
    """

    number: int
    at: int
    stage: Stage
    metric: str
    information: float
    spent: float
    statistic: float | None
    bound: float | None
    decision: str
    facts: Mapping[str, Any] = field(default_factory=dict)
