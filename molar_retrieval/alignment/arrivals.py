"""Newcomers in a trained model: their weights and their room, both chosen on validation."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from molar_retrieval.alignment.combine import Combination, combine
from molar_retrieval.alignment.encode import item_sides
from molar_retrieval.alignment.model import NEIGHBOURS, TREND, AlignedModel
from molar_retrieval.alignment.newcomers import Predictor, among, guessed, parity, taken, withheld_items
from molar_retrieval.alignment.parts import Dense
from molar_retrieval.alignment.training import TrainingData
from molar_retrieval.alignment.validation import Cases, Ranks, ndcg, ranks
from molar_retrieval.config import AlignSettings

Matrix = npt.NDArray[np.float32]
_ENOUGH = 300
"""Validation cases from which the weights of newcomers can be told."""


def with_newcomers(
    model: AlignedModel, data: TrainingData, settings: AlignSettings, combination: Combination
) -> tuple[AlignedModel, Ranks, Combination]:
    """Give items without interactions weights of their own, and as many of ten places as validation bears.

    ``auto`` starts from parity, the newcomers' share of the catalogue, and takes places away while what ships would
    rank the validation cases worse than its best part alone; if none are left to take, other weights are tried.

    Args:
        model: Its weights are not looked at.
        data: What it was trained on.
        settings: ``newcomers`` matters.
        combination: How the parts rank the validation cases.

    Returns:
        What ships, how it ranks the validation cases, and the combination whose weights it has.
    """
    weights, predictors = _learned(model, data, settings.seed)
    model = replace(model, newcomer_weights=weights, predictors=predictors)
    if settings.newcomers != "auto":
        choices = [round(10 * settings.newcomers)]
    else:
        choices = list(range(parity(~model.known) if any(weights.values()) else 0, -1, -1))
    floor = max(map(ndcg, combination.alone.values()), default=0.0)
    tried: list[tuple[AlignedModel, Ranks, Combination]] = []
    for used in _with_fallbacks(combination):
        for slots in choices:
            shipped = replace(model, weights=used.weights, slots=slots)
            tried.append((shipped, model_ranks(shipped, data.cases), used))
            if ndcg(tried[-1][1]) >= floor:
                return tried[-1]
    return max(tried, key=lambda one: ndcg(one[1]))


def _with_fallbacks(combination: Combination) -> Iterator[Combination]:
    used: Combination | None = combination
    while used is not None:
        yield used
        used = used.fallback


def model_ranks(model: AlignedModel, cases: Cases) -> Ranks:
    """Ranks of the cases' targets by what ships."""

    def scores(block: slice) -> Matrix:
        return model.lifted(model.scores(cases.histories(block)), ~cases.hidden(block))

    return ranks(cases, scores)


def _learned(model: AlignedModel, data: TrainingData, seed: int) -> tuple[Mapping[str, float], Mapping[str, Predictor]]:
    """Weights of the parts among newcomers, and what predicts the blocks of these.

    Validation cases tell the weights. Where few of them have a target that plays newcomer, training interactions do,
    without the collaborative tower: it was trained on them, and would be thought better than it is.
    """
    withheld = withheld_items(model.known, seed)
    counts = np.bincount(data.log.item, minlength=data.log.n_items)
    sides = item_sides(model.network, model.known)
    collaborative = {TREND: np.log1p(counts).astype(np.float32)[:, None]}
    asked = data.cases.select(np.flatnonzero(withheld[data.cases.targets]))
    if len(asked) >= _ENOUGH:
        collaborative |= {name: side for name, side in sides.items() if name != "content"}
    else:
        asked = taken(data.log, withheld, seed)
    items, predictors = {}, {}
    for name, side in collaborative.items():
        items[name], predictors[name] = guessed(data.features, side, counts, model.known, withheld)
    if "content" in sides:
        items["content"] = sides["content"][withheld]
    if model.taste is not None:
        items[NEIGHBOURS] = model.taste.items[withheld]
    if not len(asked):
        return dict.fromkeys(items, 0.0), predictors
    users = model.users_by_part(asked.histories(), np.arange(len(asked)))
    parts = {name: Dense(users[name], side) for name, side in items.items()}
    return combine(among(asked, withheld), parts, seed).weights, predictors
