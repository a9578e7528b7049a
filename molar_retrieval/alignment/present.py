"""A trained model over the present items and log: nothing is trained, experts are counted."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molar_retrieval.alignment.drift import Foretold, foretell, remembered, unread
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.alignment.network import PostAlignment
from molar_retrieval.alignment.recount import Recounted, counts_nearly_all, recount, same_histories
from molar_retrieval.alignment.store import described, open_model, save
from molar_retrieval.collaborative.factors import open_log
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.text_features import hashed_features, numeric_attributes
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.experts.content_knn import DIM, compressed, principal
from molar_retrieval.experts.histories import known_items
from molar_retrieval.experts.repeats import brought
from molar_retrieval.ranking import reranker
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

_COLLABORATIVE = "collaborative"


@dataclass(frozen=True, eq=False)
class Present:
    """A model of the present data, how its experts were counted, and what came since, its log, as facts."""

    model: AlignedModel
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
    records = [Foretold.of(record) for record in manifest.facts.get("derived", {}).get("foretold", [])]
    foretold = remembered(records, foretell(model, before, log))
    catalogue = Catalogue.open(read["catalogue"].require()[0])
    moved_to = catalogue.ids.rows(before.items.array).astype(np.int64)
    rows = before.items.rows(catalogue.ids.array).astype(np.int64)
    chosen = {name: one["chosen"] for name, one in manifest.facts["experts"].items()}
    partners = manifest.settings["align"]["partners"]
    counts_all = "derived" in manifest.facts or counts_nearly_all(log, manifest.facts["training_interactions"])
    unchanged = counts_all and same_histories(before, log, moved_to)
    counted = recount(log, chosen, partners, model.item_item, moved_to, model.least, partial, unchanged=unchanged)
    content = ContentVectors.open(read["content"].require()[0])
    features = model.conditioner(content.vectors, hashed_features(catalogue), folder=read.root)
    moved = _with_items(model, features, rows, None if "derived" in manifest.facts else model.known)
    standards = {} if model.reranker is None else model.reranker.numbers
    numbers = reranker.matrix(numeric_attributes(catalogue), standards, len(features))
    habits = None if model.habits is None else brought(model.habits, rows, log, model.least)
    moved = replace(moved, known=known_items(log), item_item=counted.item_item, numbers=numbers, habits=habits)
    came = {
        "users": log.n_users,
        "interactions": len(log),
        "last_interaction": int(log.timestamp.max()) if len(log) else None,
        "new_items": int((rows < 0).sum()),
        "gone_items": int((moved_to < 0).sum()),
        "recounted": not unchanged,
        "foretold": [record.to_dict() for record in foretold],
        "unread": unread(manifest.facts, log),
    }
    return Present(moved, counted, came)


def _with_items(model: AlignedModel, features: Matrix, rows: Rows, trained: Mask | None) -> AlignedModel:
    """A model over other items: each was at ``rows`` before, -1 where it is new, shape (n,), and has ``features``.

    Rows of the collaborative table that no training has shaped are guesses: of new items, and where the model is as it
    was trained, of all that it did not know, which ``trained`` says, shape (number of items before,).
    """
    axes = model.taste_axes
    if axes is None and features.shape[1] > DIM:
        axes = principal(model.features)
    taste = model.content_knn
    return replace(
        model,
        network=_network(model, features, rows, trained),
        features=features,
        content_knn=None if taste is None else replace(taste, items=compressed(features, axes)),
        cf=None if model.cf is None else _carried(model.cf, rows),
        taste_axes=axes,
    )


def _network(model: AlignedModel, features: Matrix, rows: Rows, trained: Mask | None) -> PostAlignment:
    state = dict(model.network.state_dict())
    name = f"items.{_COLLABORATIVE}.weight"
    if name in state:
        before = state[name].numpy()
        table = _carried(before, rows)
        fresh = (rows < 0) if trained is None else (rows < 0) | ~trained[rows]
        ordinary = before[model.known].mean(axis=0) if model.known.any() else np.float32(0)
        predictor = model.predictors.get(_COLLABORATIVE)
        table[fresh] = ordinary + (0 if predictor is None else predictor(features[fresh]))
        state[name] = torch.from_numpy(table)
    factors = state["project_factors.weight"].shape[1] if "project_factors.weight" in state else 0
    network = PostAlignment(model.network.shapes, len(rows), torch.from_numpy(features), factors)
    network.load_state_dict(state)
    return network.eval()


def _carried(matrix: Matrix, rows: Rows) -> Matrix:
    """Rows of a matrix, zeros for -1."""
    found: Matrix = np.where(rows[:, None] >= 0, matrix[rows], np.float32(0))
    return found
