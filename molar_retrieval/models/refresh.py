"""A new ensemble from the live one without training: what has changed in catalogue and log, and nothing else.

Towers, weights, slots and the reranker stay what training made of them. Items are found again by their ids; what an
encoder saw of them goes through the map that was fitted once; item-item models are counted again over the present log
with their settings: validation has chosen these and the weights without the interactions that it held out, and a model
that ships may count all of them. An item that training did not know has a vector predicted from its content, as a
cold-start item has, and keeps it when the first users have taken it.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.text_features import features_digest, numeric_attributes
from molar_retrieval.embedding.content_vectors import VECTORS
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models import snapshot
from molar_retrieval.models.towers.inference import FILE
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking import reranker
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import PRIVATE, Manifest, Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.resources import library_versions

_VERSION = 1
"""Raised with every change of what comes of the same inputs."""
_WORK = "molar update"


@dataclass(frozen=True)
class RefreshReport:
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


def refresh(workspace: Workspace, progress: Progress = SILENT) -> RefreshReport:
    """Bring the live ``alignment`` to the workspace's present catalogue, content vectors and log, and publish it.

    Nothing happens where these are what it was made from; what shapes it is as it was trained, whatever settings say.

    Raises:
        MissingArtefactError: If there is no alignment yet, or something it is made from is missing.
        StaleArtefactError: If it cannot be carried over, so that training is due, or something that is read was made
            anew meanwhile.
    """
    if PRIVATE in workspace["alignment"].require()[1].facts:
        return _of_statistics(workspace)
    with workspace.lock("alignment"), pin(workspace, "catalogue", "content", "interactions", work=_WORK) as read:
        former = _Base(*workspace["alignment"].require())
        inputs = _inputs(read)
        derived = former.manifest.facts.get("derived")
        if derived is not None and inputs == dict(former.manifest.inputs):
            snapshot.rename(read, former.folder)
            return RefreshReport(former.folder, former.manifest.fingerprint, True, dict(derived))
        began = time.perf_counter()
        reason = cannot_be_refreshed(read, former.manifest)
        before = None if reason else snapshot.kept_log(former.folder)
        if before is None:
            words = f"the alignment cannot be brought to the present data: {reason or 'an earlier molar made it'}"
            raise StaleArtefactError(words, "run `molar align`, which trains it anew")
        store, vectors = workspace["alignment"], fingerprint.of_file(read["content"].require()[0] / VECTORS)
        name = fingerprint.of_json(["derived", _VERSION, former.manifest.fingerprint, inputs])
        partial = store.partial(name[:16])
        _clear(partial)
        notes: tuple[str, ...] = ()
        if former.differs_in_numbers(read, inputs, vectors):
            facts, came = former.renumbered(read, partial)
        else:
            pass  # brings torch

            progress.start("counting what has changed", None)
            from molar_retrieval.models.carry_over import bring  # brings torch

            now = bring(former.folder, former.manifest, read, before, partial)
            facts, came = now.write(partial), now.came
            notes = tuple(f"{one}: {why}" for one, why in now.counted.left.items())
            progress.finish()
        snapshot.keep(read, partial)
        account = {**former.account, **came, "seconds": round(time.perf_counter() - began, 2)}
        facts = {**former.manifest.facts, **facts, "derived": account, "content_vectors": vectors}
        libraries = library_versions("torch", "numpy", "implicit")
        read.confirm()
        folder = store.publish(partial, Manifest("alignment", name, inputs, former.manifest.settings, facts, libraries))
    return RefreshReport(folder, name, False, account, notes)


def _clear(folder: Path) -> None:
    """Remove what a killed run has left."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _of_statistics(workspace: Workspace) -> RefreshReport:
    """What statistics with noise give over the present catalogue; the log counts again with their next release."""
    from molar_retrieval.models.private_alignment import align_on_statistics  # brings torch
    from molar_retrieval.models.store import trained_with

    settings = trained_with(workspace["alignment"].require()[1])
    folder, manifest, made = align_on_statistics(workspace, settings, _WORK)
    return RefreshReport(folder, manifest.fingerprint, not made, dict(manifest.facts["derived"]))


def cannot_be_refreshed(read: Workspace, alignment: Manifest) -> str | None:
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
    attributes = features_digest(Catalogue.open(folder))
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

    def differs_in_numbers(self, read: Workspace, inputs: Mapping[str, str], vectors: str) -> bool:
        """Whether nothing else of the present data can differ: the same items, words, photos, histories.

        ``vectors`` is the fingerprint of the present content vectors.
        """
        facts, same = self.manifest.facts, ("attributes", "interactions")
        if "derived" not in facts or facts.get("content_vectors") != vectors:
            return False
        items = Catalogue.open(read["catalogue"].require()[0]).ids
        known = snapshot.kept_items(self.folder).array.equals(items.array)
        return known and all(self.manifest.inputs[kind] == inputs[kind] for kind in same)

    def renumbered(self, read: Workspace, partial: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Write the model with the present numbers; facts of the model, and of what came: nothing."""
        catalogue, tensors = Catalogue.open(read["catalogue"].require()[0]), load_file(self.folder / FILE)
        second = self.manifest.facts["reranker"]
        standards = {} if second is None else second["numbers"]
        numbers = reranker.matrix(numeric_attributes(catalogue), standards, len(catalogue))
        save_file(tensors | {"numbers": np.ascontiguousarray(numbers)}, partial / FILE)
        derived = self.manifest.facts["derived"]
        kept = ("users", "interactions", "last_interaction", "predicted_hits", "new_share")
        return {}, {name: derived[name] for name in kept if name in derived} | {
            "new_items": 0,
            "gone_items": 0,
            "recounted": False,
        }
