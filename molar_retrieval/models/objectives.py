"""What weights are chosen for: the next item, the first of a visit (session start), repeats, all later items."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from molar_retrieval import rng
from molar_retrieval.data.interactions import Holdout, Interactions
from molar_retrieval.errors import SettingsError
from molar_retrieval.models.base import CountModels
from molar_retrieval.models.blending import Counted, Dense, EnsembleWeights, Gain, ScoreComponent, blend, ranked
from molar_retrieval.models.cold_start import model_ranks, with_cold_start
from molar_retrieval.models.ensemble import Encoded, Ensemble
from molar_retrieval.models.own_block import OwnBlock
from molar_retrieval.models.repeat_consumption import (
    REPEAT_CONSUMPTION,
    RepeatConsumption,
    day_after,
    fit_repeat_consumption,
)
from molar_retrieval.models.reranker import learned
from molar_retrieval.models.towers.network import TwoTowerNetwork
from molar_retrieval.models.towers.training import TrainingData, tower_parts
from molar_retrieval.models.validation import ValidationCases, bounded, means, sample
from molar_retrieval.models.vectors import item_sides
from molar_retrieval.ranking.objectives import (
    FUTURE_ITEMS,
    FUTURE_ITEMS_SEEN,
    NEXT_ITEM_SEEN,
    SESSION_START,
    SESSION_START_SEEN,
    VISIT,
)
from molar_retrieval.workspace.resources import Timer
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Mask, Ranks, Rows

FEWEST = 100
"""Validation cases below which nothing is chosen."""
_MOST_STARTS = 2000
"""Cases that choose, drawn where there are more."""


@dataclass(frozen=True, eq=False)
class SessionStart:
    """The weights of each part for whoever comes back, and how they rank, for the manifest."""

    weights: Mapping[str, float]
    report: dict[str, Any]


def session_starts(cases: ValidationCases, seed: int = 0) -> ValidationCases:
    """The cases as of the beginning of the visit in which their target was taken, at most 2,000 of them.

    A visit is what was done with less than half an hour between one thing and the next. Cases in whose first visit the
    target was taken are left out.
    """
    log = cases.histories()
    begins, asked = visit_began(log, cases.times)
    chosen = np.flatnonzero(begins > log.offsets[:-1])
    known = log.select(np.arange(len(log)) < begins[log.user]).of_users(chosen)
    found = replace(cases.select(chosen), times=asked[chosen], known=known)
    return sample(found, _MOST_STARTS, rng.generator(seed, "arrivals"))


def visit_began(log: Interactions, times: Rows) -> tuple[Rows, Rows]:
    """Of the visit of each user at some time, in seconds: the place in the log of its first interaction, and when.

    That is the end of the history, and the time itself, where somebody comes back at that time. Shapes (n_users,).
    """
    starts = np.ones(len(log), bool)
    starts[1:] = (np.diff(log.timestamp) >= VISIT) | (np.diff(log.user) != 0)
    last = np.maximum.accumulate(np.where(starts, np.arange(len(log)), -1))
    begins, asked = log.offsets[1:].copy(), np.array(times, np.int64)
    within = ~comes_back(replace(log, asked_at=asked)) & (np.diff(log.offsets) > 0)
    begins[within] = last[log.offsets[1:][within] - 1]
    asked[within] = log.timestamp[begins[within]]
    return begins, asked


def comes_back(log: Interactions) -> Mask:
    """Whether each user is asked about half an hour or more after their last interaction; shape (n_users,).

    Nobody is where the log does not say when they are asked about, or their last interaction has no time.
    """
    found = np.zeros(log.n_users, bool)
    some = np.flatnonzero(np.diff(log.offsets))
    if log.asked_at is not None:
        last = log.timestamp[log.offsets[some + 1] - 1]
        found[some] = (last > 0) & (last <= log.asked_at[some] - VISIT)
    return found


def better(blended: EnsembleWeights, own: Ranks, others: Ranks) -> SessionStart | None:
    """What was found, if it ranks the arrivals better than others do, by more than a standard error; else None."""
    if Gain.of(own, others).lower_bound(1.0) <= 0:
        return None
    scores = {name: means(rank) for name, rank in {**blended.alone, "next_item": others, "aligned": own}.items()}
    return SessionStart(blended.weights, {"cases": len(own), "scores": scores, "shares": dict(blended.shares)})


@dataclass(frozen=True, eq=False)
class RepeatWeights:
    """What is chosen for lists that show what somebody had: habits, the weight of each part, and how they rank.

    Who comes back has weights of their own where these are better.
    """

    repeats: RepeatConsumption
    weights: Mapping[str, float]
    report: dict[str, Any]
    session_start: Mapping[str, float] | None = None

    def given_to(self, model: Ensemble) -> Ensemble:
        """The model with these weights beside those that it has, also for all that follows, if it is asked for that."""
        shown = dict.fromkeys(
            (NEXT_ITEM_SEEN, FUTURE_ITEMS_SEEN) if FUTURE_ITEMS.name in model.objectives else (NEXT_ITEM_SEEN,),
            self.weights,
        )
        if self.session_start is not None:
            shown[SESSION_START_SEEN] = self.session_start
        return replace(model.with_objectives(shown), repeats=self.repeats)


def choose_repeat(
    holdout: Holdout,
    network: TwoTowerNetwork,
    data: TrainingData,
    counts: CountModels,
    settings: AlignSettings,
    least: int,
    precision: str,
    own: Sequence[OwnBlock] = (),
) -> RepeatWeights | None:
    """Learn habits from the training interactions, and weights for them beside the other parts on all that came next.

    None where no case is something that its user had before, hardly anything is taken again, or habits get no weight.
    """
    began, until = Timer(), max(day_after(data.log), int(holdout.times.max(initial=0)))
    if (
        REPEAT_CONSUMPTION not in settings.models
        or not holdout.again.any()
        or (repeats := fit_repeat_consumption(data.log, until, least)) is None
    ):
        return None
    holdout = holdout.select(bounded(len(holdout), data.log.n_items, settings.seed))
    cases = replace(ValidationCases.with_repeats(holdout), folder=data.cases.folder)

    def parts(cases: ValidationCases) -> dict[str, ScoreComponent]:
        return {
            **tower_parts(network, replace(data, cases=cases), precision),
            **{one.name: Dense(one.users(cases.histories()), one.items) for one in own},
            **counts.parts(cases),
            REPEAT_CONSUMPTION: Counted(repeats.read(cases.histories()), repeats.weights),
        }

    blended = blend(cases, parts(cases), settings.seed)
    if not blended.weights[REPEAT_CONSUMPTION]:
        return None
    back, session_start = session_starts(cases, settings.seed), None
    if len(back) >= FEWEST:
        told = parts(back)
        fused, (others,) = blend(back, told, settings.seed), ranked(back, told, [blended.weights])
        session_start = better(fused, fused.ranks, others)
    took = began.took
    report = {
        "cases": len(cases),
        "repeats": int(np.count_nonzero(holdout.again)),
        "weights": dict(blended.weights),
        "shares": dict(blended.shares),
        "scores": {**{name: means(rank) for name, rank in blended.alone.items()}, "aligned": means(blended.ranks)},
        "session_start": None if session_start is None else session_start.report,
        "seconds": round(took.seconds, 2),
        "processor_seconds": round(took.processor, 2),
    }
    return RepeatWeights(repeats, blended.weights, report, None if session_start is None else session_start.weights)


@dataclass(frozen=True, eq=False)
class Weighted:
    """A model with what was chosen for the next item alone.

    Attributes:
        model: With weights, cold-start items' places and the second stage; it has no weights for other aims, but for
        whoever
            comes back, where these are better.
        fusion: How its parts rank the validation cases.
        ranks: How what ships ranks them, but for the second stage.
        facts: What the manifest says of the choice.
    """

    model: Ensemble
    blended: EnsembleWeights
    ranks: Ranks
    facts: dict[str, Any]


def choose(
    model: Ensemble,
    data: TrainingData,
    counts: CountModels,
    standards: Mapping[str, tuple[float, float]],
    settings: AlignSettings,
) -> Weighted:
    """Choose by the validation cases of the data.

    Of ``model``, whose count-based models are these, weights are not looked at. ``standards`` are mean and deviation of
    the model's numbers, by field; of the settings ``cold_start_share``, ``reranker``, ``seed`` and ``threads`` matter.

    Raises:
        SettingsError: If no model is left.
    """
    model = replace(model, objectives={}, reranker=None)
    encoded = model.users_by_part(data.cases.histories(), np.arange(len(data.cases)))
    parts = _parts(model, data, counts, data.cases, encoded)
    if not parts:
        raise SettingsError(
            "no model is left to score with", "name another one in [align] models, beside repeat_consumption"
        )
    blended = blend(data.cases, parts, settings.seed)
    model, shipped, blended = with_cold_start(model, data, settings, blended, encoded)
    second, facts = learned(model, data.cases, standards, settings, encoded)
    model, session_start = _for_session_start(replace(model, reranker=second), data, counts, settings.seed)
    told = {
        "shares": dict(blended.shares),
        "dropped": {name: asdict(gain) for name, gain in blended.dropped.items()},
        "reranking": facts,
        "session_start": session_start,
    }
    return Weighted(model, blended, shipped, told)


def _parts(
    model: Ensemble, data: TrainingData, counts: CountModels, cases: ValidationCases, encoded: Encoded
) -> dict[str, ScoreComponent]:
    towers = {name: Dense(encoded[name], side) for name, side in item_sides(model.network, data.warm).items()}
    own = {one.name: Dense(encoded[one.name], one.items) for one in model.own}
    return {**towers, **own, **counts.parts(cases)}


def _for_session_start(
    model: Ensemble, data: TrainingData, counts: CountModels, seed: int
) -> tuple[Ensemble, dict[str, Any] | None]:
    """The model with weights for whoever comes back, and how these were chosen, where they are better."""
    cases = session_starts(data.cases, seed)
    if len(cases) < FEWEST:
        return model, None
    encoded = model.users_by_part(cases.histories(), np.arange(len(cases)))
    blended = blend(cases, _parts(model, data, counts, cases, encoded), seed)
    with_objectives = model.with_objectives({SESSION_START: blended.weights})
    own, others = model_ranks(with_objectives, cases, encoded, SESSION_START), model_ranks(model, cases, encoded)
    found = better(blended, own, others)
    return (model, None) if found is None else (with_objectives, found.report)
