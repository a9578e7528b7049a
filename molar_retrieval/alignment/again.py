"""Weights for lists that show what somebody had: chosen on what came next, be it something that they take again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from molar_retrieval.alignment.arriving import FEWEST, arrivals, better
from molar_retrieval.alignment.components import Counted, ScoreComponent, ranked
from molar_retrieval.alignment.counting import Experts
from molar_retrieval.alignment.fusion import fuse
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.alignment.network import PostAlignment
from molar_retrieval.alignment.training import TrainingData, tower_parts
from molar_retrieval.alignment.validation import ValidationCases, bounded, means
from molar_retrieval.data.interactions import Holdout
from molar_retrieval.experts.habits import HABITS, Habits, day_after
from molar_retrieval.experts.repeats import fit_habits
from molar_retrieval.ranking.aims import ARRIVING_SEEN, LATER, LATER_SEEN, NEXT_SEEN
from molar_retrieval.workspace.resources import Timer
from molar_retrieval.workspace.settings import AlignSettings


@dataclass(frozen=True, eq=False)
class Again:
    """What is chosen for lists that show what somebody had: habits, the weight of each part, and how they rank.

    Who comes back has weights of their own where these are better.
    """

    habits: Habits
    weights: Mapping[str, float]
    report: dict[str, Any]
    arriving: Mapping[str, float] | None = None

    def given_to(self, model: AlignedModel) -> AlignedModel:
        """The model with these weights beside those that it has, also for all that follows, if it is asked for that."""
        shown = dict.fromkeys((NEXT_SEEN, LATER_SEEN) if LATER.name in model.aims else (NEXT_SEEN,), self.weights)
        if self.arriving is not None:
            shown[ARRIVING_SEEN] = self.arriving
        return replace(model.aiming(shown), habits=self.habits)


def choose_again(
    holdout: Holdout,
    network: PostAlignment,
    data: TrainingData,
    experts: Experts,
    settings: AlignSettings,
    least: int,
    precision: str,
) -> Again | None:
    """Learn habits from the training interactions, and weights for them beside the other parts on all that came next.

    None where no case is something that its user had before, hardly anything is taken again, or habits get no weight.
    """
    began, until = Timer(), max(day_after(data.log), int(holdout.times.max(initial=0)))
    if not holdout.again.any() or (habits := fit_habits(data.log, until, least)) is None:
        return None
    holdout = holdout.select(bounded(len(holdout), data.log.n_items, settings.seed))
    cases = replace(ValidationCases.with_repeats(holdout), folder=data.cases.folder)

    def parts(cases: ValidationCases) -> dict[str, ScoreComponent]:
        return {
            **tower_parts(network, replace(data, cases=cases), precision),
            **experts.parts(cases),
            HABITS: Counted(habits.read(cases.histories()), habits.weights),
        }

    fusion = fuse(cases, parts(cases), settings.seed)
    if not fusion.weights[HABITS]:
        return None
    back, arriving = arrivals(cases, settings.seed), None
    if len(back) >= FEWEST:
        told = parts(back)
        own, (others,) = fuse(back, told, settings.seed), ranked(back, told, [fusion.weights])
        arriving = better(own, own.ranks, others)
    took = began.took
    report = {
        "cases": len(cases),
        "repeats": int(np.count_nonzero(holdout.again)),
        "weights": dict(fusion.weights),
        "shares": dict(fusion.shares),
        "scores": {**{name: means(rank) for name, rank in fusion.alone.items()}, "aligned": means(fusion.ranks)},
        "arriving": None if arriving is None else arriving.report,
        "seconds": round(took.seconds, 2),
        "processor_seconds": round(took.processor, 2),
    }
    return Again(habits, fusion.weights, report, None if arriving is None else arriving.weights)
