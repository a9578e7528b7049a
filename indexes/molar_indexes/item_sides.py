"""All that a generation tells of items beyond what the model and the catalogue say: counted, or of statistics."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molar_indexes.background import support
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.cold_start import exploration
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.k_anonymity import had_by_few
from molar_retrieval.models.vectors import ItemVectors
from molar_retrieval.ranking.item_store import LowSupportItems
from molar_retrieval.workspace.settings import ExplorationSettings
from molar_retrieval.workspace.tensors import Array

_POPULAR = 1000


@dataclass(frozen=True, eq=False)
class ItemSides:
    """What is told of items.

    Attributes:
        vectors: Of all items.
        popular: Rows and counts of those that most took, the most popular first.
        support: How many people had both items of each partner weight, by dimension, then by item; None: nobody knows.
        explored: How new items are tried; None: they are not.
        low-support: Items with few interactions, as they are ranked among cold-start items; None: there are none.
    """

    vectors: ItemVectors
    popular: list[tuple[int, int]]
    support: Array | None = None
    explored: dict[str, Any] | None = None
    low_support: LowSupportItems | None = None

    @classmethod
    def counted(
        cls,
        model: Ensemble,
        log: Interactions,
        newcomers: ExplorationSettings,
        folder: Path | None = None,
    ) -> "ItemSides":
        """Those of a log. What is large lies in ``folder``; None: in memory."""
        vectors = model.items(log)
        plan, low_support = exploration(model, vectors, log, newcomers) if newcomers.explore else (None, None)
        counts = np.bincount(log.item, minlength=log.n_items)
        counts[had_by_few(log, model.least)] = 0
        told = None if plan is None else asdict(plan)
        return cls(vectors, _most(counts), support(log, vectors.neighbors, folder), told, low_support)

    @classmethod
    def released(cls, model: Ensemble) -> "ItemSides":
        """Those of a model of statistics with noise, which no log is asked for; nobody knows who had two items."""
        if model.demand is None:
            raise ValueError("the model is not one of statistics")
        return cls(model.items_now(), _most(np.rint(model.demand).astype(np.int64)))


def _most(counts: Array) -> list[tuple[int, int]]:
    order = np.argsort(-counts, kind="stable")[:_POPULAR]
    return [(int(row), int(counts[row])) for row in order if counts[row]]
