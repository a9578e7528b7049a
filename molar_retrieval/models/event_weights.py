"""Which kinds of events count, and how much: chosen on validation, by what counting makes of each choice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval.data.event_history import DEFAULT, EventWeights, counted
from molar_retrieval.data.event_parsing import EVENT_TYPES
from molar_retrieval.data.interactions import Interactions, holdout_last
from molar_retrieval.models.base import count_models
from molar_retrieval.models.blending import blend
from molar_retrieval.models.validation import ValidationCases, ndcg
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.settings import AlignSettings, ModelName, SplitSettings

FEWEST = 50
"""Validation cases below which nothing is chosen."""
_MOST = 2000
_MODELS: tuple[ModelName, ...] = ("sequential", "ease", "item_knn", "popularity")
_LOOKS = ("click", "view")


def candidates(there: Sequence[str]) -> list[dict[str, float]]:
    """Weights worth trying for the kinds that occur: the strongest alone, then with carts, then with looks."""
    highest = max(DEFAULT[kind] for kind in there)
    strongest = {kind: 1.0 for kind in there if DEFAULT[kind] == highest}
    carts = [kind for kind in there if kind == "add_to_cart" and kind not in strongest]
    looks = [kind for kind in there if kind in _LOOKS and kind not in strongest]
    tried = [strongest]
    if carts:
        tried.append({**strongest, "add_to_cart": 0.3})
    if looks:
        tried += [{**strongest, **dict.fromkeys(carts, max(0.3, w)), **dict.fromkeys(looks, w)} for w in (0.1, 0.3)]
    return tried


def choose_kinds(
    log: Interactions,
    kind: npt.NDArray[np.int32],
    there: Sequence[str],
    settings: AlignSettings,
    split: SplitSettings,
    progress: Progress = SILENT,
) -> EventWeights | None:
    """The weights under which the count-based models find best what people took next of the strongest kind.

    All choices are asked the same: for each person, before they first looked at it, what they took last. None where
    there are fewer than 50 such people.

    Args:
        log: All kinds, those that were taken last among them.
        kind: What each interaction is, a place in ``KINDS``, shape (n,).
        there: The kinds that occur.
        settings: Of the count-based models.
        split: Who validates.
        progress: Told of the result.
    """
    carrying = replace(log, weight=kind.astype(np.float32))  # the split takes the kinds along
    holdout = holdout_last(carrying, min(split.validation_users, _MOST), split.seed)
    if len(holdout) < FEWEST:
        progress.note(f"which events count is left at its defaults: {len(holdout):,} people are too few to validate on")
        return None
    kept = holdout.training.weight
    assert kept is not None
    models = tuple(name for name in _MODELS if name in settings.models) or _MODELS
    own = settings.model_copy(update={"models": models})
    tried: list[dict[str, Any]] = []
    for weights in candidates(there):
        of_kind = np.array([weights.get(name, 0.0) for name in EVENT_TYPES], np.float32)
        strength = np.where(kept < 0, np.float32(1), of_kind[kept.astype(np.int64)])
        part = replace(holdout.training, strength=strength, weight=strength).select(strength > 0)
        cases = replace(ValidationCases.of(holdout), log=part)
        tried.append({"weights": counted(weights), "ndcg@10": round(_score(part, cases, own), 6)})
    best = max(tried, key=lambda one: one["ndcg@10"])  # the first of equals
    chosen = EventWeights(best["weights"], "validation", tried)
    progress.note(f"events count as {in_words(best['weights'])}: {told(tried)}")
    return chosen


def _score(log: Interactions, cases: ValidationCases, settings: AlignSettings) -> float:
    if not len(log):
        return 0.0
    parts = count_models(log, cases, np.zeros((log.n_items, 1), np.float32), settings, blocks=False).parts(cases)
    return ndcg(blend(cases, parts, settings.seed).ranks)


def in_words(weights: Mapping[str, float]) -> str:
    """Kinds and their weights."""
    return ", ".join(f"{kind} {weight:g}" for kind, weight in weights.items())


def told(tried: Sequence[Mapping[str, Any]]) -> str:
    """What was tried, with its numbers."""
    return "validation NDCG@10 " + "; ".join(f"{one['ndcg@10']:.4f} with {in_words(one['weights'])}" for one in tried)
