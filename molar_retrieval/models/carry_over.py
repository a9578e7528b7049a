"""A trained ensemble over the present items and log: nothing is trained, item-item models are counted again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.text_features import hashed_features, numeric_attributes
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.models import ease
from molar_retrieval.models.als import open_log
from molar_retrieval.models.base import EASE, ITEM_KNN, REGRESSION, Setting, refit
from molar_retrieval.models.content_knn import DIM, compressed, principal
from molar_retrieval.models.drift import PredictedHits, new_share, predicted_hits, with_record
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.item_item import ItemItemWeights, countable, known_items, many_pairs
from molar_retrieval.models.k_anonymity import KAnonymity
from molar_retrieval.models.own_block import OwnBlock, fit_data
from molar_retrieval.models.repeat_consumption import over_items
from molar_retrieval.models.store import described, open_model, save
from molar_retrieval.models.towers.network import TwoTowerNetwork
from molar_retrieval.ranking import reranker
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

_LITTLE = 1000
"""Of so many interactions one is little."""


@dataclass(frozen=True, eq=False)
class Recounted:
    """Item-item models over a log.

    ``left`` names those that stay as they were, with the reason, because the log is too large for their model by now.
    """

    item_item: tuple[ItemItemWeights, ...]
    left: Mapping[str, str]


def counts_nearly_all(log: Interactions, training: int) -> bool:
    """Whether models of so many ``training`` interactions of a log are not worth counting again.

    They are not where pairs are counted in blocks and less than a thousandth of the interactions is missing.
    """
    return (len(log) - training) * _LITTLE < len(log) and many_pairs(log)


def same_histories(before: Interactions, after: Interactions, rows: Rows) -> bool:
    """Whether the histories of two logs are equal; ``rows`` says where each item is now, -1 where it is gone."""
    if not (before.users.array.equals(after.users.array) and np.array_equal(before.offsets, after.offsets)):
        return False
    strengths = [np.float32(1) if log.strength is None else log.strength for log in (before, after)]
    same = np.array_equal(rows[before.item], after.item) and np.array_equal(before.timestamp, after.timestamp)
    return same and bool(np.all(strengths[0] == strengths[1]))


def recount(
    log: Interactions,
    chosen: Mapping[str, Setting],
    neighbors: int,
    former: Sequence[ItemItemWeights],
    rows: Rows,
    least: int = 1,
    folder: Path | None = None,
    *,
    unchanged: bool = False,
) -> Recounted:
    """Count the models with the settings ``chosen`` by name, keeping so many ``neighbors`` of each item.

    ``rows`` says where each item of the ``former`` models is now, -1 where it is gone. Where the histories are
    ``unchanged`` since these were counted, only item neighbours are counted again, as they weigh a history by its share
    of all items. No pair rests on fewer people than ``least``. Large weights are mapped from files in ``folder``,
    None: in memory.
    """
    left = {one.name: note for one in former if (note := _too_many(chosen[one.name], log))}
    same_items = np.array_equal(rows, np.arange(log.n_items))
    kept = {
        one.name
        for one in former
        if one.name in left or (unchanged and (same_items or chosen[one.name]["model"] != ITEM_KNN))
    }
    few = None if len(kept) == len(former) else KAnonymity.of(countable(log), least)
    item_item = tuple(
        one.moved(rows, log.n_items)
        if one.name in kept
        else refit(one.name, log, chosen[one.name], neighbors, few, folder, exact=True)
        for one in former
    )
    return Recounted(item_item, left)


def _too_many(setting: Setting, log: Interactions) -> str | None:
    known = int(known_items(log).sum())
    if setting["model"] not in (EASE, REGRESSION) or known <= ease.MAX_ITEMS:
        return None
    return f"{known:,} items have interactions, and {setting['model']} takes {ease.MAX_ITEMS:,}"


_ID_TOWER = "id_tower"


@dataclass(frozen=True, eq=False)
class Present:
    """A model of the present data, how its count-based models were counted, and what came since, its log, as facts."""

    model: Ensemble
    counted: Recounted
    came: dict[str, Any]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the arrays into a version's folder; returns what belongs into its manifest's facts."""
        save(self.model, folder)
        known = self.model.known
        counts = {"users": self.came["users"], "items": len(known), "cold_items": int((~known).sum())}
        return described(self.model) | counts


def bring(folder: Path, manifest: Manifest, read: Workspace, before: Interactions, partial: Path) -> Present:
    """Bring the alignment in ``folder``, which has seen the log ``before``, to the artefacts that are ``read``.

    How well it foretold what has come is asked first, and told with what came. Large weights are mapped from files
    without a name in the folder ``partial``.
    """
    model, log = open_model(folder), open_log(read)
    records = [PredictedHits.of(record) for record in manifest.facts.get("derived", {}).get("predicted_hits", [])]
    predicted = with_record(records, predicted_hits(model, before, log))
    catalogue = Catalogue.open(read["catalogue"].require()[0])
    moved_to = catalogue.ids.rows(before.items.array).astype(np.int64)
    rows = before.items.rows(catalogue.ids.array).astype(np.int64)
    chosen = {name: one["chosen"] for name, one in manifest.facts["models"].items()}
    neighbors = manifest.settings["align"]["neighbors"]
    counts_all = "derived" in manifest.facts or counts_nearly_all(log, manifest.facts["training_interactions"])
    unchanged = counts_all and same_histories(before, log, moved_to)
    counted = recount(log, chosen, neighbors, model.item_item, moved_to, model.least, partial, unchanged=unchanged)
    content = ContentVectors.open(read["content"].require()[0])
    features = model.conditioner(content.vectors, hashed_features(catalogue), folder=read.root)
    moved = _with_items(model, features, rows, None if "derived" in manifest.facts else model.known)
    standards = {} if model.reranker is None else model.reranker.numbers
    numbers = reranker.matrix(numeric_attributes(catalogue), standards, len(features))
    repeats = None if model.repeats is None else over_items(model.repeats, rows, log, model.least)
    given = fit_data(log, None, features, manifest.settings["align"]["seed"])
    own = tuple(OwnBlock.fit(one.model, given) for one in model.own)
    moved = replace(
        moved, known=known_items(log), item_item=counted.item_item, numbers=numbers, repeats=repeats, own=own
    )
    came = {
        "users": log.n_users,
        "interactions": len(log),
        "last_interaction": int(log.timestamp.max()) if len(log) else None,
        "new_items": int((rows < 0).sum()),
        "gone_items": int((moved_to < 0).sum()),
        "recounted": not unchanged,
        "predicted_hits": [record.to_dict() for record in predicted],
        "new_share": new_share(manifest.facts, log),
    }
    return Present(moved, counted, came)


def _with_items(model: Ensemble, features: Matrix, rows: Rows, trained: Mask | None) -> Ensemble:
    """A model over other items: each was at ``rows`` before, -1 where it is new, shape (n,), and has ``features``.

    Rows of the table of the ID tower that no training has shaped are guesses: of new items, and where the model is as
    it was trained, of all that it did not know, which ``trained`` says, shape (number of items before,).
    """
    axes = model.content_knn_axes
    if axes is None and features.shape[1] > DIM:
        axes = principal(model.features)
    taste = model.content_knn
    return replace(
        model,
        network=_network(model, features, rows, trained),
        features=features,
        content_knn=None if taste is None else replace(taste, items=compressed(features, axes)),
        als=None if model.als is None else _carried(model.als, rows),
        content_knn_axes=axes,
    )


def _network(model: Ensemble, features: Matrix, rows: Rows, trained: Mask | None) -> TwoTowerNetwork:
    state = dict(model.network.state_dict())
    name = f"items.{_ID_TOWER}.weight"
    if name in state:
        before = state[name].numpy()
        table = _carried(before, rows)
        fresh = (rows < 0) if trained is None else (rows < 0) | ~trained[rows]
        ordinary = before[model.known].mean(axis=0) if model.known.any() else np.float32(0)
        predictor = model.predictors.get(_ID_TOWER)
        table[fresh] = ordinary + (0 if predictor is None else predictor(features[fresh]))
        state[name] = torch.from_numpy(table)
    factors = state["project_factors.weight"].shape[1] if "project_factors.weight" in state else 0
    network = TwoTowerNetwork(model.network.shapes, len(rows), torch.from_numpy(features), factors)
    network.load_state_dict(state)
    return network.eval()


def _carried(matrix: Matrix, rows: Rows) -> Matrix:
    """Rows of a matrix, zeros for -1."""
    found: Matrix = np.where(rows[:, None] >= 0, matrix[rows], np.float32(0))
    return found
