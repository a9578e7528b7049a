"""`molar align`: from content vectors, factors and interactions to an aligned model in the workspace."""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval import fingerprint
from molar_retrieval.alignment import conditioning
from molar_retrieval.alignment.checkpoint import EpochScore
from molar_retrieval.alignment.device import pick_device, pick_precision
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.alignment.training import TrainingData, Validated, train, validate
from molar_retrieval.alignment.validation import Cases, Part, ndcg, ranks, recall
from molar_retrieval.catalog import is_current
from molar_retrieval.collaborative.factors import factorise, held_out, open_factors
from molar_retrieval.config import MolarSettings
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.errors import DataError, StaleArtefactError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.versions import library_versions
from molar_retrieval.workspace import Manifest, Workspace

_VERSION = 1
_NO_EFFECT = {"threads", "device"}


@dataclass(frozen=True)
class AlignReport:
    """What `molar align` did.

    Attributes:
        folder: The ``alignment`` artefact.
        fingerprint: Its fingerprint.
        up_to_date: Whether it was there already.
        scores: Validation NDCG@10 and Recall@10 of each model, ours and the baselines, by name.
        facts: Counts, the chosen weights, epochs, precision, seconds.
        curve: The score of each epoch.
    """

    folder: Path
    fingerprint: str
    up_to_date: bool
    scores: dict[str, dict[str, float]]
    facts: dict[str, Any]
    curve: list[EpochScore] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self) | {"folder": str(self.folder)}


def align(
    workspace: Workspace,
    settings: MolarSettings,
    *,
    restart: bool = False,
    progress: Progress = SILENT,
    on_epoch: Callable[[EpochScore], None] = lambda _: None,
) -> AlignReport:
    """Train the post-alignment network on the workspace's artefacts and publish it as its ``alignment``.

    ALS factors are made on the way where they are missing or stale. An unfinished run with the same inputs and
    settings is continued.

    Args:
        workspace: With content vectors and prepared interactions.
        settings: All sections; ``align``, ``cf`` and ``split`` matter.
        restart: Forget unfinished work.
        progress: Told of the work.
        on_epoch: Told of each epoch's score.

    Raises:
        MissingArtefactError: If a step before is missing.
        StaleArtefactError: If the content vectors belong to another state of the catalogue.
        DataError: If the log leaves nothing to train on.
    """
    inputs = _inputs(workspace)
    cf = factorise(workspace, settings.cf, settings.split, progress)
    inputs |= {"cf": cf.fingerprint}
    chosen = {"align": settings.align.model_dump(), "split": settings.split.model_dump()}
    shaping = {k: v for k, v in chosen["align"].items() if k not in _NO_EFFECT}
    precision = pick_precision(settings.align.precision, pick_device(settings.align.device))
    run = fingerprint.of_json([inputs, shaping, chosen["split"], precision, _VERSION])
    store = workspace["alignment"]
    manifest = store.manifest
    if manifest is not None and manifest.fingerprint == run and not restart:
        return _report(store.require()[0], manifest, True)
    with workspace.lock("alignment"):
        partial = store.partial(run[:16])
        if restart:
            shutil.rmtree(partial)
            partial = store.partial(run[:16])
        facts = _train(workspace, settings, partial, run, progress, on_epoch)
        versions = library_versions("torch", "numpy", "implicit")
        manifest = Manifest("alignment", run, inputs, chosen, facts | {"precision": precision}, versions)
        folder = store.publish(partial, manifest)
    return _report(folder, manifest, False)


def _train(
    workspace: Workspace,
    settings: MolarSettings,
    partial: Path,
    run: str,
    progress: Progress,
    on_epoch: Callable[[EpochScore], None],
) -> dict[str, Any]:
    """Train in ``partial``, save the model there, and return the facts of its manifest."""
    began = time.perf_counter()
    data, conditioner = training_data(workspace, settings)
    network, story = train(data, settings.align, partial, run, progress=progress, on_epoch=on_epoch)
    precision = pick_precision(settings.align.precision, network.item_table.device)
    final = validate(network, data, precision)
    AlignedModel(network, conditioner, data.warm, final.weights, precision).save(partial)
    for file in partial.glob("*checkpoint*"):
        file.unlink()
    (partial / "best.safetensors").unlink()
    blocks = [[b.name, b.start, b.stop] for b in conditioner.blocks]
    return {
        "users": data.log.n_users,
        "items": data.log.n_items,
        "cold_items": int((~data.warm).sum()),
        "training_interactions": len(data.log.item),
        "validation_cases": len(data.cases),
        "weights": list(final.weights),
        "content_blocks": blocks,
        "scores": _scores(data, final),
        "curve": [asdict(score) for score in story.epochs],
        "best_epoch": story.best.epoch if story.best else 0,
        "seconds": round(time.perf_counter() - began, 1),
    }


def training_data(workspace: Workspace, settings: MolarSettings) -> tuple[TrainingData, conditioning.Conditioner]:
    """What the network trains on, and the map that made its content features."""
    holdout = held_out(workspace, settings.split)
    if not len(holdout.training.item):
        raise DataError("no interactions are left for training", "bring a longer log")
    content = ContentVectors.open(workspace["content"].require()[0])
    conditioner = conditioning.fit(content.vectors, content.blocks, settings.align.content_dims)
    cases = Cases(
        holdout.training,
        holdout.users.astype(np.int64),
        holdout.targets.astype(np.int64),
        np.ones(holdout.training.n_items, bool),
    )
    factors = open_factors(workspace["cf"].require()[0])
    return TrainingData(holdout.training, cases, conditioner(content.vectors), factors), conditioner


def _scores(data: TrainingData, final: Validated) -> dict[str, dict[str, float]]:
    """Validation scores of the model, of its towers alone and of two baselines."""
    counts = np.bincount(data.log.item, minlength=data.log.n_items).astype(np.float32)
    users = data.cases.users
    popularity = Part(np.ones((len(users), 1), np.float32), counts[:, None])
    als = Part(data.factors.users[users], data.factors.items)
    ranked = {
        "popularity": ranks(data.cases, [popularity], [(1.0,)])[0],
        "ALS": ranks(data.cases, [als], [(1.0,)])[0],
        "content tower": final.content,
        "collaborative tower": final.collaborative,
        "aligned": final.together,
    }
    return {name: {"ndcg@10": ndcg(rank), "recall@10": recall(rank)} for name, rank in ranked.items()}


def _inputs(workspace: Workspace) -> dict[str, str]:
    """Fingerprints of the artefacts that enter, checked to belong together."""
    _, catalogue = workspace["catalogue"].require()
    _, interactions = workspace["interactions"].require()
    _, content = workspace["content"].require()
    if content.inputs.get("catalogue") != catalogue.fingerprint or not is_current(workspace.catalogue, workspace):
        raise StaleArtefactError(
            "the catalogue has changed since its content vectors were made",
            f"run `molar embed {workspace.catalogue}` again",
        )
    return {"content": content.fingerprint, "interactions": interactions.fingerprint}


def _report(folder: Path, manifest: Manifest, up_to_date: bool) -> AlignReport:
    facts = dict(manifest.facts)
    curve = [EpochScore(**score) for score in facts.pop("curve")]
    return AlignReport(folder, manifest.fingerprint, up_to_date, facts.pop("scores"), facts, curve)
