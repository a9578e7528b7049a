"""The experts beside the towers, fitted by counting, with settings that rank the validation cases best."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval import rng
from molar_retrieval.alignment.components import Counted, Dense, Momentary, ScoreComponent
from molar_retrieval.alignment.validation import ValidationCases, ndcg, ranks, sample, taken
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts.content_knn import ContentNeighbours
from molar_retrieval.experts.fit import CONTENT, NAMES, Readers, Scoring, fit_experts
from molar_retrieval.experts.histories import known_items
from molar_retrieval.experts.item_item import ItemItemWeights
from molar_retrieval.experts.trend import Trend
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Matrix

_JUDGED = 2000
"""Validation cases that choose an expert's settings; the weights are chosen on all."""
_READ, _READ_SCORES = 5000, 50_000_000
"""Cases of validation and of training that choose how content neighbours read a history; fewer of many items."""


@dataclass(frozen=True, eq=False)
class Experts:
    """What counting gives, as far as it was asked for, and what was chosen and tried, by expert."""

    item_item: tuple[ItemItemWeights, ...]
    content_knn: ContentNeighbours | None
    trend: Trend | None
    report: dict[str, dict[str, Any]]
    features: Matrix | None = None  # what content neighbours are made of, shape (n_items, f)

    def parts(self, cases: ValidationCases) -> dict[str, ScoreComponent]:
        """The experts as parts of the score of the cases."""
        histories = cases.histories()
        parts: dict[str, ScoreComponent] = {p.name: Counted(p.read(histories), p.weights) for p in self.item_item}
        if self.content_knn is not None:
            parts["neighbours"] = Dense(self.content_knn.users(histories), self.content_knn.items)
        if self.trend is not None:
            parts["trend"] = Momentary(self.trend, cases.times)
        return parts


def count(
    log: Interactions,
    cases: ValidationCases,
    features: Matrix,
    settings: AlignSettings,
    progress: Progress = SILENT,
    least: int = 1,
    *,
    blocks: bool = True,
    folder: Path | None = None,
) -> Experts:
    """Fit the experts that the settings name; a sample of the validation cases chooses each one's own settings.

    Those of content neighbours training interactions choose as well, of people who do not teach content meanwhile.
    ``log`` holds training interactions, ``features`` conditioned content of all items, shape (n_items, f);
    what rests on fewer people than ``least`` is left out. Without ``blocks`` nothing is tried that takes minutes;
    large weights are mapped from files in ``folder``, None: in memory.
    """
    few = sample(cases, _JUDGED, rng.generator(settings.seed, "expert cases"))

    def judge(scoring: Scoring) -> float:
        return ndcg(ranks(few, partial(_scored, scoring, few)))

    names = [name for name in NAMES if name in settings.experts]
    fitted, report = fit_experts(
        log,
        judge,
        settings.partners,
        names,
        progress,
        features,
        least,
        blocks=blocks,
        folder=folder,
        readers=_readers(log, few, settings.seed) if CONTENT in names else None,
    )
    item_item = tuple(expert for expert in fitted if isinstance(expert, ItemItemWeights))
    content_knn = next((expert for expert in fitted if isinstance(expert, ContentNeighbours)), None)
    trend = next((expert for expert in fitted if isinstance(expert, Trend)), None)
    return Experts(item_item, content_knn, trend, report, features)


def _readers(log: Interactions, validation: ValidationCases, seed: int) -> Readers:
    """The validation cases, and with them what a random half of the people took, by which the others are not taught."""
    half = (rng.generator(seed, "readers").random(log.n_users) < 0.5)[log.user]
    most = max(_JUDGED, min(_READ, _READ_SCORES // log.n_items)) - len(validation)
    asked = validation, taken(log.select(half), known_items(log), seed, most)

    def judge(scoring: Scoring) -> float:
        return ndcg(np.concatenate([ranks(cases, partial(_scored, scoring, cases)) for cases in asked]))

    return Readers(judge, log.select(~half))


def _scored(scoring: Scoring, cases: ValidationCases, block: slice) -> Matrix:
    return scoring(cases.histories(block))
