"""Newcomers in a trained model: their weights and their room, both chosen on validation."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from molar_retrieval.alignment.combine import Combination
from molar_retrieval.alignment.encode import item_sides
from molar_retrieval.alignment.model import NEIGHBOURS, TREND, AlignedModel
from molar_retrieval.alignment.newcomers import (
    FOLDS,
    WITHHELD,
    Predictor,
    cross_fitted,
    folds,
    newcomer_weights,
    parity,
    ridge,
)
from molar_retrieval.alignment.training import TrainingData
from molar_retrieval.alignment.validation import Cases, Ranks, ndcg, ranks
from molar_retrieval.config import AlignSettings

Matrix = npt.NDArray[np.float32]


def with_newcomers(
    model: AlignedModel, data: TrainingData, settings: AlignSettings, combination: Combination
) -> tuple[AlignedModel, Ranks]:
    """Give items without interactions weights of their own, and as many of ten places as validation bears.

    ``auto`` starts from parity, the newcomers' share of the catalogue, and takes places away while what ships would
    rank the validation cases worse than its best part alone.

    Args:
        model: With the weights of known items.
        data: What it was trained on.
        settings: ``newcomers`` matters.
        combination: How the parts rank the validation cases.

    Returns:
        What ships, and how it ranks the validation cases.
    """
    weights, predictors = _learned(model, data, settings.seed)
    model = replace(model, newcomer_weights=weights, predictors=predictors)
    if settings.newcomers != "auto":
        choices = [round(10 * settings.newcomers)]
    else:
        choices = list(range(parity(~model.known) if any(weights.values()) else 0, -1, -1))
    floor = max(map(ndcg, combination.alone.values()), default=0.0)
    tried: dict[int, Ranks] = {}
    for slots in choices:
        tried[slots] = model_ranks(replace(model, slots=slots), data.cases)
        if ndcg(tried[slots]) >= floor:
            break
    best = max(tried, key=lambda slots: ndcg(tried[slots]))
    return replace(model, slots=best), tried[best]


def model_ranks(model: AlignedModel, cases: Cases) -> Ranks:
    """Ranks of the cases' targets by what ships."""

    def scores(block: slice) -> Matrix:
        return model.lifted(model.scores(cases.histories(block)), ~cases.hidden(block))

    return ranks(cases, scores)


def _learned(model: AlignedModel, data: TrainingData, seed: int) -> tuple[Mapping[str, float], Mapping[str, Predictor]]:
    """Predictors of the blocks, and the weights of their guesses."""
    known = model.known
    counts = np.bincount(data.log.item, minlength=data.log.n_items)
    fold = folds(known, seed)
    guessable: dict[str, Matrix] = {TREND: np.log1p(counts).astype(np.float32)[:, None]}
    sides = item_sides(model.network, known)
    guessable |= {name: side for name, side in sides.items() if name != "content"}
    items = {name: side for name, side in sides.items() if name == "content"}
    predictors = {}
    for name, side in guessable.items():
        predicted, regularisation = cross_fitted(data.features[known], side[known], counts[known], fold[known])
        items[name] = np.zeros_like(side)
        items[name][known] = predicted
        predictors[name] = ridge(data.features[known], side[known], counts[known], regularisation)
    vectors = model.users_by_part(data.cases.histories(), np.arange(len(data.cases)))
    if model.taste is not None:
        items[NEIGHBOURS] = model.taste.items
    users = {name: vectors[name] for name in items}
    asked = [WITHHELD] if "content" in items else range(FOLDS)
    weights = newcomer_weights(data.cases, users, items, fold, asked, seed)
    return weights, predictors
