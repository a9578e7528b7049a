"""A new alignment from the live one without training: what has changed in catalogue and log, and nothing else.

Towers, weights, places and the second stage stay what training made of them. Items are found again by their ids; what
an encoder saw of them goes through the map that was fitted once; counting experts are counted over the present log with
their settings. An item that training did not know has a vector guessed from its content, as a newcomer has, and keeps
it when the first people have taken it.
"""

import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molar_retrieval import fingerprint
from molar_retrieval.alignment import seen
from molar_retrieval.alignment.drift import Foretold, foretell, remembered
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.alignment.network import PostAlignment
from molar_retrieval.alignment.recount import Recounted, open_sums, recount, save_sums
from molar_retrieval.alignment.store import described, open_model, save
from molar_retrieval.arrays import Mask, Matrix, Rows
from molar_retrieval.catalog import Catalogue
from molar_retrieval.catalog.features import attributes_digest, hashed_attributes, numeric_attributes
from molar_retrieval.collaborative.factors import open_log
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.experts.content_knn import DIM, compressed, principal
from molar_retrieval.experts.histories import known_items
from molar_retrieval.interactions import InteractionLog
from molar_retrieval.pinned import pin
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking import reranker
from molar_retrieval.versions import library_versions
from molar_retrieval.workspace import Manifest, Workspace

_VERSION = 1
"""Raised with every change of what comes of the same inputs."""
_WORK = "molar update"
_COLLABORATIVE = "collaborative"


@dataclass(frozen=True)
class DeriveReport:
    """What was derived.

    Attributes:
        folder: The ``alignment`` artefact.
        fingerprint: Its fingerprint.
        up_to_date: Whether the live one is of the present data already.
        facts: What its manifest says under ``derived``: of which trained alignment, how many updates since, what came.
        notes: What could not be brought up to date, and why.
    """

    folder: Path
    fingerprint: str
    up_to_date: bool
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self) | {"folder": str(self.folder), "notes": list(self.notes)}


def derive(workspace: Workspace, progress: Progress = SILENT) -> DeriveReport:
    """Bring the live ``alignment`` to the workspace's present catalogue, content vectors and log, and publish it.

    Nothing happens where these are what it was made from; what shapes it is as it was trained, whatever settings say.

    Raises:
        MissingArtefactError: If there is no alignment yet, or something it is made from is missing.
        StaleArtefactError: If it cannot be carried over, so that training is due, or something that is read was made
            anew meanwhile.
    """
    with workspace.lock("alignment"), pin(workspace, "catalogue", "content", "interactions", work=_WORK) as read:
        former = _Base(*workspace["alignment"].require())
        inputs = _inputs(read)
        derived = former.manifest.facts.get("derived")
        if derived is not None and inputs == dict(former.manifest.inputs):
            return DeriveReport(former.folder, former.manifest.fingerprint, True, dict(derived))
        began = time.perf_counter()
        reason = cannot_be_derived(read, former.manifest)
        before = None if reason else seen.kept(former.folder)
        if before is None:
            words = f"the alignment cannot be brought to the present data: {reason or 'an earlier molar made it'}"
            raise StaleArtefactError(words, "run `molar align`, which trains it anew")
        progress.start("counting what has changed", None)
        trained = open_model(former.folder)
        foretold = former.foretold(trained, before, open_log(read))
        model, counted, came = former.now(trained, read, before)
        progress.finish()
        name = fingerprint.of_json(["derived", _VERSION, former.manifest.fingerprint, inputs])
        store = workspace["alignment"]
        shutil.rmtree(store.partial(name[:16]))
        partial = store.partial(name[:16])
        save(model, partial)
        save_sums(counted.sums, partial)
        seen.keep(read, partial)
        if derived is None and former.manifest.inputs.items() >= inputs.items():
            seen.keep_trained(former.folder, partial)
        account = {**former.account, **came, "foretold": foretold, "seconds": round(time.perf_counter() - began, 2)}
        facts = {**former.manifest.facts, **described(model), "derived": account}
        facts |= {"users": came["users"], "items": len(model.known), "cold_items": int((~model.known).sum())}
        libraries = library_versions("torch", "numpy", "implicit")
        read.confirm()
        folder = store.publish(partial, Manifest("alignment", name, inputs, former.manifest.settings, facts, libraries))
    return DeriveReport(folder, name, False, account, tuple(f"{one}: {why}" for one, why in counted.left.items()))


def cannot_be_derived(read: Workspace, alignment: Manifest) -> str | None:
    """Why an alignment cannot be carried over to the live content vectors; None where it can."""
    made_by, now = alignment.facts.get("encoder"), read["content"].require()[1].settings["encoder"]
    if made_by is None:
        return "an earlier version of molar made it"
    if made_by["fingerprint"] != now["fingerprint"]:
        return f"it was trained on vectors of {made_by['name']}, and those of the workspace are by {now['name']}"
    return None


def _inputs(read: Workspace) -> dict[str, str]:
    """Fingerprints of what a derived alignment is of, by kind."""
    folder, catalogue = read["catalogue"].require()
    attributes = attributes_digest(hashed_attributes(Catalogue.open(folder)))
    others = {kind: read[kind].require()[1].fingerprint for kind in ("content", "interactions")}
    return {**others, "attributes": attributes, "catalogue": catalogue.fingerprint}


@dataclass(frozen=True)
class _Base:
    """The alignment from which another one is derived."""

    folder: Path
    manifest: Manifest

    @property
    def account(self) -> dict[str, Any]:
        """Which training it goes back to, and how many updates since then, with the next one."""
        derived = self.manifest.facts.get("derived")
        if derived is None:
            return {"trained": self.manifest.fingerprint, "trained_at": self.manifest.created, "updates": 1}
        return {name: derived[name] for name in ("trained", "trained_at")} | {"updates": derived["updates"] + 1}

    def foretold(self, model: AlignedModel, before: InteractionLog, log: InteractionLog) -> list[dict[str, Any]]:
        """How well the alignments since training foretold what came after each; the ``model`` of this one is asked."""
        derived = self.manifest.facts.get("derived", {})
        records = [Foretold.of(record) for record in derived.get("foretold", [])]
        return [one.to_dict() for one in remembered(records, foretell(model, before, log))]

    def now(
        self, model: AlignedModel, read: Workspace, before: InteractionLog
    ) -> tuple[AlignedModel, Recounted, dict[str, Any]]:
        """The model brought to the present data, how its experts were counted, what came since ``before``, its log."""
        log, catalogue = open_log(read), Catalogue.open(read["catalogue"].require()[0])
        moved_to = catalogue.ids.rows(before.items.array).astype(np.int64)
        chosen = {name: one["chosen"] for name, one in self.manifest.facts["experts"].items()}
        sums = open_sums(self.folder)
        base = None if sums is None else (sums, before)
        counted = recount(log, chosen, self.manifest.settings["align"]["partners"], model.item_item, base, moved_to)
        content = ContentVectors.open(read["content"].require()[0])
        features = model.conditioner(content.vectors, hashed_attributes(catalogue))
        trained = None if "derived" in self.manifest.facts else model.known
        moved = _with_items(model, features, before.items.rows(catalogue.ids.array).astype(np.int64), trained)
        standards = {} if model.reranker is None else model.reranker.numbers
        numbers = reranker.matrix(numeric_attributes(catalogue), standards, len(features))
        moved = replace(moved, known=known_items(log), item_item=counted.item_item, numbers=numbers)
        came = {
            "users": log.n_users,
            "interactions": len(log),
            "last_interaction": int(log.timestamp.max()) if len(log) else None,
            "new_items": int((before.items.rows(catalogue.ids.array) < 0).sum()),
            "gone_items": int((moved_to < 0).sum()),
            "changed_users": counted.changed,
        }
        return moved, counted, came


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
