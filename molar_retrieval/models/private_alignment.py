"""An alignment of statistics with noise: nothing here reads what a person did.

All that it learns of other people was released once, (ε, δ)-differentially private for each of them
(:mod:`molar_retrieval.privacy.statistics`), and what is computed of that tells no more. Its settings are fixed:
choosing by validation would ask the log again. Every item counts as known, as whether anybody has taken one would be
told by that.
A person's own history is read when that person asks, on their own side (joint differential privacy, Kearns et al. 2014,
doi:10.1145/2554797.2554834).
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.text_features import features_digest, hashed_features
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models.content_knn import compressed
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.private import private_models
from molar_retrieval.models.store import described, save
from molar_retrieval.models.towers.network import TwoTowerNetwork
from molar_retrieval.privacy.statistics import KIND, PublishedStatistics, open_statistics
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import PRIVATE, Manifest, Workspace
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.resources import library_versions
from molar_retrieval.workspace.settings import AlignSettings

_VERSION = 1
"""Raised with every change of what comes of the same statistics."""
_LEFT_OUT = {
    "towers": "training reads every history many times, and would take noise that leaves nothing of it",
    "ALS factors": "they hold a vector for each person",
    "second stage": "it is trained on validation cases, which are people's",
    "validation": "asking people's last interactions which setting is best would tell of them",
    "new items": "whether an item is new is told by whether anybody has taken it, so all count as known",
}


def align_on_statistics(workspace: Workspace, settings: AlignSettings, work: str) -> tuple[Path, Manifest, bool]:
    """Publish the ``alignment`` of the live statistics over the present catalogue, and say whether it was made anew.

    Of the ``settings`` only ``neighbors`` matters; ``work`` is the command, for people.

    Raises:
        MissingArtefactError: If there are no statistics, or no content vectors.
        StaleArtefactError: If the vectors are by another encoder than the statistics are told in, or something that is
            read was made anew meanwhile.
    """
    with pin(workspace, "catalogue", "content", KIND, work=work) as read, workspace.lock("alignment"):
        began, store = time.perf_counter(), workspace["alignment"]
        folder, catalogue = read["catalogue"].require()
        content, embedded = read["content"].require()
        statistics = open_statistics(read[KIND].require()[0])
        _refuse_other_encoder(statistics.manifest, embedded)
        attributes = features_digest(Catalogue.open(folder))
        inputs = {kind: read[kind].require()[1].fingerprint for kind in ("catalogue", "content", KIND)}
        inputs |= {"attributes": attributes}
        chosen = _fixed(settings)
        name = fingerprint.of_json([PRIVATE, _VERSION, inputs, chosen.neighbors])
        live = store.live
        if live is not None and live[1].fingerprint == name:
            return *live, False
        model = model_of(statistics, Catalogue(folder, catalogue), ContentVectors.open(content), chosen)
        shutil.rmtree(store.partial(name[:16]))
        partial = store.partial(name[:16])
        save(model, partial)
        facts = _facts(statistics, model, None if live is None else live[1], read)
        facts |= {"seconds": round(time.perf_counter() - began, 1)}
        made = Manifest(
            "alignment",
            name,
            inputs,
            {"align": chosen.model_dump(mode="json")},
            facts,
            library_versions("torch", "numpy", "scipy"),
        )
        read.confirm()
        return store.publish(partial, made), made, True


def model_of(
    statistics: PublishedStatistics, catalogue: Catalogue, content: ContentVectors, settings: AlignSettings
) -> Ensemble:
    """The model that statistics, and other shops' beside them, give over a catalogue, which may have other items."""
    terms = statistics.own.terms
    features = terms.conditioner(content.vectors, hashed_features(catalogue))
    released, told = statistics.over(catalogue.ids)
    counts = private_models(released, compressed(features, terms.axes), settings.neighbors, told)
    return Ensemble(
        network=TwoTowerNetwork({}, len(catalogue), torch.from_numpy(features), 0).eval(),
        conditioner=terms.conditioner,
        features=features,
        known=np.ones(len(catalogue), bool),
        item_item=counts.item_item,
        content_knn=counts.content_knn,
        half_life=np.inf,
        precision="float32",
        weights=dict(counts.weights),
        popularity=counts.popularity,
        demand=counts.popularity.total(),
        content_knn_axes=terms.axes,
    )


def _fixed(settings: AlignSettings) -> AlignSettings:
    """The settings without what is not trained here; sizes of towers, which there are none of, are filled in."""
    off: dict[str, Any] = {
        "reranker": False,
        "cold_start_share": 0.0,
        "embedding_dim": 8,
        "max_history": 2,
        "batch_tokens": 64,
    }
    return settings.without_towers().model_copy(update=off)


def _refuse_other_encoder(statistics: Manifest, embedded: Manifest) -> None:
    told, now = statistics.facts["encoder"], embedded.settings["encoder"]
    if told["fingerprint"] != now["fingerprint"]:
        raise StaleArtefactError(
            f"the statistics were released in terms of vectors of {told['name']}, and those of the workspace are by"
            f" {now['name']}",
            "run `molar align --privacy EPSILON`, which releases anew, or embed with the former encoder",
        )


def _facts(
    statistics: PublishedStatistics, model: Ensemble, former: Manifest | None, read: PinnedWorkspace
) -> dict[str, Any]:
    told = statistics.manifest
    same = former is not None and former.facts.get("derived", {}).get("trained") == told.fingerprint
    before: Mapping[str, Any] = former.facts["derived"] if same and former is not None else {"updates": -1}
    origin = {"trained": told.fingerprint, "trained_at": told.created, "updates": before["updates"] + 1}
    rows = statistics.own.items.rows(Catalogue.open(read["catalogue"].require()[0]).ids.array)
    origin |= {"new_items": int((rows < 0).sum()), "recounted": False}
    return {
        "encoder": told.facts["encoder"],
        "items": len(model.known),
        "cold_items": 0,
        "scores": {},
        "shares": {},
        "models": {},
        "curve": [],
        "best_epoch": 0,
        PRIVATE: {
            **told.settings,
            "ledger": told.facts["ledger"],
            "released_at": told.facts.get("released_at", told.created),
            "others": told.facts.get("others", []),
            "off": _LEFT_OUT,
        },
        "derived": origin,
        **described(model),
    }
