"""What validation chooses over towers and experts as they are: weights, newcomers' places, the second stage.

Training ends with it. Towers that were trained on ask for it again, as their scores are others by then, and so is what
people take: the last thing that each of them took.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from molar_retrieval.alignment.arriving import FEWEST, arrivals, better
from molar_retrieval.alignment.cold_start import model_ranks, with_newcomers
from molar_retrieval.alignment.components import Dense, ScoreComponent
from molar_retrieval.alignment.counting import Experts
from molar_retrieval.alignment.fusion import Fusion, fuse
from molar_retrieval.alignment.model import AlignedModel, Encoded
from molar_retrieval.alignment.reranking import learned
from molar_retrieval.alignment.training import TrainingData
from molar_retrieval.alignment.validation import ValidationCases
from molar_retrieval.alignment.vectors import item_sides
from molar_retrieval.errors import SettingsError
from molar_retrieval.ranking.aims import ARRIVING
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Ranks


@dataclass(frozen=True, eq=False)
class Weighted:
    """A model with what was chosen for the next item alone.

    Attributes:
        model: With weights, newcomers' places and the second stage; it has no weights for other aims, but for whoever
            comes back, where these are better.
        fusion: How its parts rank the validation cases.
        ranks: How what ships ranks them, but for the second stage.
        facts: What the manifest says of the choice.
    """

    model: AlignedModel
    fusion: Fusion
    ranks: Ranks
    facts: dict[str, Any]


def choose(
    model: AlignedModel,
    data: TrainingData,
    experts: Experts,
    standards: Mapping[str, tuple[float, float]],
    settings: AlignSettings,
) -> Weighted:
    """Choose by the validation cases of the data.

    Of ``model``, whose experts are these, weights are not looked at. ``standards`` are mean and deviation of the
    model's numbers, by field; of the settings ``newcomers``, ``rerank``, ``seed`` and ``threads`` matter.

    Raises:
        SettingsError: If there is neither a tower nor an expert.
    """
    model = replace(model, aims={}, reranker=None)
    encoded = model.users_by_part(data.cases.histories(), np.arange(len(data.cases)))
    parts = _parts(model, data, experts, data.cases, encoded)
    if not parts:
        raise SettingsError("no tower and no expert is left to score with", "name one in [align] towers or experts")
    fusion = fuse(data.cases, parts, settings.seed)
    model, shipped, fusion = with_newcomers(model, data, settings, fusion, encoded)
    second, facts = learned(model, data.cases, standards, settings, encoded)
    model, arriving = _for_arrivals(replace(model, reranker=second), data, experts, settings.seed)
    told = {
        "shares": dict(fusion.shares),
        "dropped": {name: asdict(gain) for name, gain in fusion.dropped.items()},
        "rerank": facts,
        "arriving": arriving,
    }
    return Weighted(model, fusion, shipped, told)


def _parts(
    model: AlignedModel, data: TrainingData, experts: Experts, cases: ValidationCases, encoded: Encoded
) -> dict[str, ScoreComponent]:
    towers = {name: Dense(encoded[name], side) for name, side in item_sides(model.network, data.warm).items()}
    return {**towers, **experts.parts(cases)}


def _for_arrivals(
    model: AlignedModel, data: TrainingData, experts: Experts, seed: int
) -> tuple[AlignedModel, dict[str, Any] | None]:
    """The model with weights for whoever comes back, and how these were chosen, where they are better."""
    cases = arrivals(data.cases, seed)
    if len(cases) < FEWEST:
        return model, None
    encoded = model.users_by_part(cases.histories(), np.arange(len(cases)))
    fusion = fuse(cases, _parts(model, data, experts, cases, encoded), seed)
    aiming = model.aiming({ARRIVING: fusion.weights})
    own, others = model_ranks(aiming, cases, encoded, ARRIVING), model_ranks(model, cases, encoded)
    found = better(fusion, own, others)
    return (model, None) if found is None else (aiming, found.report)
