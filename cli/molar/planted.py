"""The truth of an experiment on the demo shop: what each arm brings to its people on average, by their hidden tastes.

Both arms' lists are known at each visit; what would come of either is averaged over everything that people may do, see
:mod:`molar_retrieval.data.demo.traffic`. What they had bought before is as it came about with the list that they saw.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molar_retrieval.data.demo.traffic import ExpectedOutcome, expected_of

if TYPE_CHECKING:
    from molar_eval.experiments.results import Effect, ExperimentResults

METRICS = ("clicks", "conversion", "revenue")


@dataclass(frozen=True)
class PlantedEffect:
    """The true means of a metric, per person, of the people that an estimate is of."""

    metric: str
    control: float
    treatment: float

    @property
    def difference(self) -> float:
        """Treatment less control."""
        return self.treatment - self.control


@dataclass(frozen=True)
class EstimateBesideTruth:
    """What an experiment estimates, and what is true."""

    effect: "Effect"
    truth: PlantedEffect

    @property
    def covered(self) -> bool:
        """Whether the interval holds the truth."""
        return self.effect.low <= self.truth.difference <= self.effect.high

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        truth = asdict(self.truth) | {"difference": self.truth.difference}
        return {"effect": asdict(self.effect), "truth": truth, "covered": self.covered}


class PlantedTruth:
    """What would have come of all visits under either arm."""

    def __init__(self) -> None:
        self._visits: dict[str, list[tuple[int, ExpectedOutcome, ExpectedOutcome]]] = defaultdict(list)

    def add(self, unit: str, at: int, control: ExpectedOutcome, treatment: ExpectedOutcome) -> None:
        """A visit of a unit at a moment, in microseconds since 1970, by what would come of it under either arm."""
        self._visits[unit].append((at, control, treatment))

    def came(self, since: int) -> list[str]:
        """Units that visited from a moment on, in microseconds since 1970."""
        return [unit for unit, visits in self._visits.items() if visits[-1][0] >= since]

    def effects(self, since: Mapping[str, int], until: int) -> dict[str, PlantedEffect]:
        """The truth by metric, for people from a moment of their own on, by unit, to before one that they share."""
        people: list[tuple[ExpectedOutcome, ExpectedOutcome]] = []
        for unit, begin in since.items():
            visits = [one for one in self._visits.get(unit, ()) if begin <= one[0] < until]
            control, treatment = [control for _, control, _ in visits], [treatment for _, _, treatment in visits]
            people.append((expected_of(control), expected_of(treatment)))
        return {metric: _planted(metric, people) for metric in METRICS} if people else {}

    def beside(self, results: "ExperimentResults", since: Mapping[str, int]) -> tuple[EstimateBesideTruth, ...]:
        """Estimates of results, each beside its truth."""
        truth = self.effects(since, results.until)
        return tuple(
            EstimateBesideTruth(effect, truth[effect.metric]) for effect in results.effects if effect.metric in truth
        )


def _planted(metric: str, people: Sequence[tuple[ExpectedOutcome, ExpectedOutcome]]) -> PlantedEffect:
    field = "converted" if metric == "conversion" else metric
    return PlantedEffect(metric, *(sum(getattr(one[arm], field) for one in people) / len(people) for arm in (0, 1)))
