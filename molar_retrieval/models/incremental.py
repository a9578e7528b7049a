"""Towers trained on from where they are, over new interactions and a replayed sample of old ones.

A network that only reads what is new forgets; replaying what it was trained on before keeps it (experience replay:
Rolnick et al. 2019, arXiv 1811.11682; for recommenders Mi et al. 2020, arXiv 2007.12000). It takes one short pass at a
low learning rate, a small part of a training's time. Validation, the last thing that people took, keeps the towers as
they are where it does not make them better. Where it has enough cases it also chooses weights, cold-start items' places
and the second stage again; settings of the other parts, and weights for other aims, stay.
"""

import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval import rng
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Holdout, Interactions
from molar_retrieval.data.text_features import numeric_attributes
from molar_retrieval.errors import SettingsError, StaleArtefactError
from molar_retrieval.models.als import ALSFactors, held_out, open_log
from molar_retrieval.models.base import EASE_FUTURE, CountModels
from molar_retrieval.models.carry_over import recount
from molar_retrieval.models.cold_start import guessed
from molar_retrieval.models.drift import PredictedHits, Reason, reference
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.objectives import choose
from molar_retrieval.models.own_block import OwnBlock, fit_data
from molar_retrieval.models.popularity import Popularity
from molar_retrieval.models.store import described, open_model, save, trained_with
from molar_retrieval.models.towers import trainer
from molar_retrieval.models.towers.batches import Windows, training_windows
from molar_retrieval.models.towers.distributed import pick_device, pick_precision
from molar_retrieval.models.towers.inference import FILE, POPULARITY
from molar_retrieval.models.towers.network import TwoTowerNetwork
from molar_retrieval.models.towers.training import (
    EpochScore,
    TrainingData,
    WarmStart,
    judged,
    learned_until,
    train,
    validate,
)
from molar_retrieval.models.validation import ValidationCases, ndcg, withheld_items
from molar_retrieval.models.vectors import Predictor, item_sides
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking import reranker
from molar_retrieval.ranking.objectives import FUTURE_ITEMS, FUTURE_ITEMS_SEEN, NEXT_ITEM_SEEN, SESSION_START_SEEN
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import INVENTORY, Manifest, Workspace
from molar_retrieval.workspace.files import MANIFEST, link_or_copy
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.resources import library_versions
from molar_retrieval.workspace.settings import AlignSettings, SplitSettings
from molar_retrieval.workspace.tensors import Rows

_VERSION = 7
"""Raised with every change of what comes of the same inputs."""
_WORK = "molar update"
_RATE = 0.25
"""Of the learning rate of the first training."""
_REPLAYED = 4
"""Old interactions for each new one …"""
_LEAST_REPLAYED = 0.05
"""… but at least this share of the log."""
_READ = 0.06
"""Interactions read, at most, as a share of those that the first training read in all of its passes."""

_ENOUGH = 1000
"""Validation cases from which weights are chosen again: fewer say less of them than those of the training did."""


@dataclass(frozen=True)
class WarmReport:
    """What a warm start came to.

    Attributes:
        folder: The live ``alignment``, a new one.
        better: Whether towers that were trained on are better; the former ones stay where they are not.
        before: Validation NDCG@10 of the towers as they were.
        after: Of those that were trained on.
        new: New interactions that were read.
        replayed: Old ones.
        until: When the last interaction was, in seconds; what comes after it makes another one due.
        drifted: Whether drift was the reason.
        weighted: Whether weights were chosen again; they stay where validation has few cases.
        seconds: What it took.
    """

    folder: Path
    better: bool
    before: float
    after: float
    new: int
    replayed: int
    until: int | None
    drifted: bool
    weighted: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self) | {"folder": str(self.folder)}


def warm_start(
    workspace: Workspace,
    *,
    why: Reason | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
    on_epoch: Callable[[EpochScore], None] = lambda _: None,
) -> WarmReport:
    """Train the towers of the live ``alignment`` on, choose weights again, and publish the result.

    Sizes and settings are those of its training. Towers stay where validation finds none better. The alignment must be
    of the present log, as one that was just derived is; a run that was killed goes on. ``threads`` are of the CPU,
    None: all.

    Raises:
        MissingArtefactError: If there is no alignment yet, or something it is made from is missing.
        StaleArtefactError: If it is of another log, or what is read was made anew meanwhile.
        SettingsError: If it has no towers.
    """
    with workspace.lock("alignment"), pin(workspace, "catalogue", "content", "interactions", work=_WORK) as read:
        began = time.perf_counter()
        folder, manifest = workspace["alignment"].require()
        model, settings, log = open_model(folder), _settings(manifest, threads), open_log(read)
        _check(read, manifest, model, log)
        holdout = held_out(read, SplitSettings(**manifest.settings["split"]))
        data = _data(model, holdout)
        most, since = _most(manifest, len(data.log)), manifest.facts.get("learned_until")
        windows, new, replayed = _read(data.log, settings, since, most)
        name = fingerprint.of_json(["warm", _VERSION, manifest.fingerprint, read.names, settings.seed])
        partial = workspace["alignment"].partial(name[:16])
        precision = pick_precision(settings.precision, pick_device(settings.device))
        before = ndcg(validate(model.network, judged(data, settings), precision)["towers"])
        onwards = WarmStart(open_model(folder).network, windows)
        network, state = train(data, settings, partial, name, onwards=onwards, progress=progress, on_epoch=on_epoch)
        after = state.best.ndcg if state.best else 0.0
        better, until = after > before, learned_until(log)
        facts, enough = dict[str, Any](), len(data.cases) >= _ENOUGH
        if better:
            model = replace(model, network=network.cpu(), predictors=_predictors(model, network, log, settings.seed))
        if enough:
            progress.start("choosing weights", None)
            model, facts = weighted(read, model, holdout, manifest, settings)
            progress.finish()
        drifted, seconds = why is not None and why.drift is not None, time.perf_counter() - began
        found = WarmReport(folder, better, before, after, new, replayed, until, drifted, enough, round(seconds, 2))
        shutil.copytree(folder, partial, copy_function=_linked, ignore=_written_anew, dirs_exist_ok=True)
        save(model, partial)
        facts = {**manifest.facts, **facts, **described(model), **_account(manifest, found)}
        facts |= {"learned_until": learned_until(data.log) if better else since}
        versions = library_versions("torch", "numpy", "implicit")
        made = Manifest("alignment", name, dict(manifest.inputs), manifest.settings, facts, versions)
        read.confirm()
        return replace(found, folder=workspace["alignment"].publish(partial, made, scaffold=trainer.FILES))


def weighted(
    read: Workspace, model: Ensemble, holdout: Holdout, manifest: Manifest, settings: AlignSettings
) -> tuple[Ensemble, dict[str, Any]]:
    """The model with all that validation chooses for the next item, and how, as facts; weights for other aims stay.

    It is chosen with count-based models that have not counted the validation cases, by their settings. The ``manifest``
    is that of the alignment, which is of the catalogue and log that are ``read``.
    """
    data = _data(model, holdout)
    chosen = {name: one["chosen"] for name, one in manifest.facts["models"].items()}
    parts = tuple(one for one in model.item_item if one.name != EASE_FUTURE)
    same = np.arange(data.log.n_items)
    counted = recount(data.log, chosen, manifest.settings["align"]["neighbors"], parts, same, model.least)
    popularity = None if model.half_life is None else Popularity.fit(data.log, model.half_life, model.least)
    counts = CountModels(counted.item_item, model.content_knn, popularity, {})
    numbers = numeric_attributes(Catalogue.open(read["catalogue"].require()[0]))
    standards = reranker.describe(numbers)
    model = replace(model, numbers=reranker.matrix(numbers, standards, data.log.n_items))
    given = fit_data(data.log, data.cases, data.features, settings.seed)
    own = tuple(OwnBlock.fit(deepcopy(one.model), given) for one in model.own)
    asked = replace(model, item_item=counted.item_item, popularity=popularity, known=data.warm, repeats=None, own=own)
    found = choose(asked, data, counts, standards, settings)
    others = (FUTURE_ITEMS, NEXT_ITEM_SEEN, SESSION_START_SEEN, FUTURE_ITEMS_SEEN)
    with_objectives = found.model.with_objectives(
        {objective: model.weights_for(objective) for objective in others if objective.name in model.objectives}
    )
    names = ("weights", "objectives", "cold_start_weights", "predictors", "slots", "reranker")
    return replace(model, **{name: getattr(with_objectives, name) for name in names}), found.facts


def _account(manifest: Manifest, found: WarmReport) -> dict[str, Any]:
    """What the manifest says of it. What was foretold since the first days after training is counted from here on."""
    facts = {"warm": {key: value for key, value in found.to_dict().items() if key != "folder"}}
    if (derived := manifest.facts.get("derived")) is not None:
        first = reference([PredictedHits.of(record) for record in derived.get("predicted_hits", [])])
        facts["derived"] = {**derived, "predicted_hits": [record.to_dict() for record in first], "new_share": 0.0}
    return facts


def _settings(manifest: Manifest, threads: int | None) -> AlignSettings:
    """Those of the training, for fewer and smaller steps; what compares people to ALS factors is left out."""
    settings = trained_with(manifest)
    changes = {"epochs": 1, "patience": 1, "learning_rate": settings.learning_rate * _RATE}
    return settings.model_copy(update={**changes, "alignment_weight": 0.0, "threads": threads})


def _check(read: PinnedWorkspace, manifest: Manifest, model: Ensemble, log: Interactions) -> None:
    if not model.network.shapes:
        raise SettingsError("the alignment has no towers to train on", "it counts, which needs no training")
    now = read["interactions"].require()[1].fingerprint
    if manifest.inputs.get("interactions") != now or len(model.known) != log.n_items:
        raise StaleArtefactError("the alignment is not of the present catalogue and log", "run `molar align`")


def _data(model: Ensemble, holdout: Holdout) -> TrainingData:
    log = holdout.training
    width = 0 if "content_tower" not in model.network.shapes else model.network.project_factors.in_features
    factors = ALSFactors(np.zeros((log.n_users, width), np.float32), np.zeros((log.n_items, width), np.float32))
    return TrainingData(log, ValidationCases.of(holdout), model.features, factors)


def _most(manifest: Manifest, interactions: int) -> int:
    """Interactions that are read, at most."""
    return int(_READ * len(manifest.facts["curve"]) * interactions)


def _read(log: Interactions, settings: AlignSettings, since: int | None, most: int) -> tuple[Windows, int, int]:
    """Windows with something newer than ``since``, in seconds, and some of the others; how much is in each.

    Where more is new than may be read, some of it, drawn at random; ``since`` None: all is new.
    """
    if settings.max_history is None:
        raise ValueError("the sizes are open")
    windows = training_windows(log, settings.max_history)
    size = windows.length - 1
    fresh = np.ones(len(windows), bool)
    if since is not None:
        fresh = log.timestamp[windows.start + windows.length - 1] > since
    random = rng.generator(settings.seed, "replayed")
    new = _some(np.flatnonzero(fresh), size, most, random)
    wanted = max(_REPLAYED * int(size[new].sum()), int(_LEAST_REPLAYED * len(log)))
    old = _some(np.flatnonzero(~fresh), size, min(wanted, most - int(size[new].sum())), random)
    return windows.select(np.sort(np.concatenate([new, old]))), int(size[new].sum()), int(size[old].sum())


def _some(windows: Rows, size: Rows, most: int, random: np.random.Generator) -> Rows:
    """So many of the windows, drawn at random, that their sizes come to ``most`` at the most."""
    drawn = random.permutation(windows)
    return drawn[np.cumsum(size[drawn]) <= most]


def _predictors(model: Ensemble, network: TwoTowerNetwork, log: Interactions, seed: int) -> dict[str, Predictor]:
    """What guesses cold-start items' blocks from their content, fitted to the towers as they are now."""
    sides = item_sides(network, model.known)
    counts = np.bincount(log.item, minlength=log.n_items)
    sides[POPULARITY] = np.log1p(counts).astype(np.float32)[:, None]
    withheld = withheld_items(model.known, seed)
    return {
        name: guessed(model.features, sides[name], counts, model.known, withheld)[1] if name in sides else predictor
        for name, predictor in model.predictors.items()
    }


def _linked(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)  # of a run that was killed
    link_or_copy(Path(source), Path(target))


def _written_anew(_: str, names: list[str]) -> set[str]:
    """What a new version writes itself."""
    return {FILE, MANIFEST, INVENTORY} & set(names)
