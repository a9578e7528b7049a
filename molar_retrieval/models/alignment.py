"""`molar align`: from content vectors, ALS factors and interactions to an ensemble in the workspace."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import is_current
from molar_retrieval.data.text_features import features_digest, hashed_features, numeric_attributes
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.errors import DataError, StaleArtefactError
from molar_retrieval.models import content_features, own_block, snapshot
from molar_retrieval.models.als import ALSFactors, drop_users, factorise, held_out, open_factors
from molar_retrieval.models.base import CountModels, count_models
from molar_retrieval.models.blending import Dense, EnsembleWeights
from molar_retrieval.models.ease import MAX_ITEMS
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.future_items import with_future_items
from molar_retrieval.models.objectives import choose, choose_repeat
from molar_retrieval.models.own_block import OwnBlock
from molar_retrieval.models.pruning import TowerPruning
from molar_retrieval.models.store import described, save
from molar_retrieval.models.towers import trainer
from molar_retrieval.models.towers.distributed import ALONE, Group, Processes, pick_device, pick_precision
from molar_retrieval.models.towers.network import TwoTowerNetwork
from molar_retrieval.models.towers.trainer import TrainingState
from molar_retrieval.models.towers.training import (
    PROBED,
    EpochScore,
    TrainingData,
    ask_probe,
    learned_until,
    sized,
    train,
    train_rounds,
    trained,
)
from molar_retrieval.models.validation import ValidationCases, bounded, means, ranks
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking import reranker
from molar_retrieval.reports import wording as words
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import generation_size, require_space
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin, pin_named
from molar_retrieval.workspace.resources import library_versions, memory_of_alignment, memory_of_machine
from molar_retrieval.workspace.settings import AlignSettings, MolarSettings, SplitSettings
from molar_retrieval.workspace.tensors import Ranks

_VERSION = 14
"""Raised with every change of what comes of the same inputs, so that nothing older passes for up to date."""
_NO_EFFECT = {"threads", "device", "preset"}
_WORK = "molar align"


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
    processes: Processes = ALONE,
    group: Group | None = None,
    progress: Progress = SILENT,
    on_epoch: Callable[[EpochScore], None] = lambda _: None,
) -> AlignReport:
    """Train the post-alignment network on the workspace's artefacts and publish it as its ``alignment``.

    ALS factors are made on the way where they are missing or stale; those of people go once it is trained. An
    unfinished run with the same inputs and settings is continued.

    Of the settings ``align``, ``als``, ``split`` and ``privacy`` matter; ``restart`` forgets unfinished work. This is
    the first of the ``processes``; the others :func:`help_to_align`. Where a ``group`` trains the
    towers, this process does the rest.

    Raises:
        MissingArtefactError: If content vectors or prepared interactions are missing.
        StaleArtefactError: If the content vectors belong to another state of the catalogue, or something that is read
            was made anew meanwhile.
        DataError: If the log leaves nothing to train on.
        DiskError: If the disk is too small.
    """
    with pin(workspace, "catalogue", "content", "interactions", work=_WORK) as read:
        inputs = _inputs(read)
        _warn_of_memory(read, progress)
        als = factorise(read, settings.als, settings.split, progress)
        inputs |= {"als": als.fingerprint}
        log = held_out(read, settings.split).training
        options, sizes = sized(settings.align, log), (log.n_items, log.n_users, len(log))
        chosen = {"align": options.model_dump(mode="json"), "split": settings.split.model_dump()}
        shaping = {k: v for k, v in chosen["align"].items() if k not in _NO_EFFECT}
        precision = pick_precision(settings.align.precision, pick_device(settings.align.device))
        least = settings.privacy.fewest(int(np.count_nonzero(np.diff(log.offsets))))
        del log  # each step opens its own, and closes it
        small: dict[str, Any] = {"min_users": least} if least > 1 else {}
        if own_block.installed(options.own_models, least):
            small["own_models"] = own_block.digests(options.own_models)
        run = fingerprint.of_json([inputs, shaping | small, chosen["split"], precision, _VERSION])
        store = workspace["alignment"]
        if (live := store.live) is not None and _trained_as(live[1], inputs) == run and not restart:
            processes.agreed(None)
            drop_users(workspace)
            with workspace.lock("alignment"):
                snapshot.rename(read, live[0])
            return _report(*live, True)

        als = factorise(read, settings.als, settings.split, progress, people=True)
        read.take("als", (als.folder, Manifest.read(als.folder)))

        def tell(score: EpochScore) -> None:
            if not processes.several:  # others would wait for this one in vain
                read.confirm()
            on_epoch(score)

        with workspace.lock("alignment"):
            require_space(store.root, generation_size(*sizes), "an alignment and its generation take about")
            partial = store.partial(run[:16])
            if restart:
                shutil.rmtree(partial)
                partial = store.partial(run[:16])
            root, folder = read.root.absolute(), partial.absolute()  # a group's processes are elsewhere
            job = processes.agreed(TrainingJob(root, options, settings.split, folder, run, read.names, least))
            if group is not None:
                group = group.for_work(gpu=job.gpu) if options.towers else None
            facts = _train(read, job, processes, group, progress, tell)
            snapshot.keep(read, partial)
            versions = library_versions("torch", "numpy", "implicit")
            inputs |= {"catalogue": read["catalogue"].require()[1].fingerprint}
            manifest = Manifest("alignment", run, inputs, chosen, facts | {"precision": precision}, versions)
            read.confirm()
            folder = store.publish(partial, manifest, scaffold=trainer.FILES)
        drop_users(workspace)
        return _report(folder, manifest, False)


def help_to_align(workspace: Workspace, processes: Processes) -> None:
    """What the other processes of a launch do: train with the first one, which does all the rest."""
    job: TrainingJob | None = processes.agreed(None)
    if job is not None:
        train(job.data(workspace), job.settings, job.folder, job.run, processes=processes)


@dataclass(frozen=True)
class TrainingJob:
    """What is to be trained, for a :class:`~molar_retrieval.models.towers.distributed.Group` as well.

    Attributes:
        root: Of the workspace.
        settings: With all sizes filled in.
        split: What validates.
        folder: Where the run lies.
        run: Its fingerprint.
        read: The versions of what is read, by kind.
        least: The fewest people.
        most: Epochs after which it pauses; None: it goes on to the end.
    """

    root: Path
    settings: AlignSettings
    split: SplitSettings
    folder: Path
    run: str
    read: Mapping[str, str]
    least: int
    most: int | None = None
    task: str = "training the towers"

    @property
    def gpu(self) -> bool:
        """Whether each process takes a GPU, where there are any."""
        return self.settings.device != "cpu"

    @property
    def threads(self) -> int:
        """CPU threads of each process of a group."""
        return self.settings.threads or 1

    def data(self, workspace: Workspace) -> TrainingData:
        """What the network trains on."""
        return training_data(pin_named(workspace, self.read, _WORK), self.settings, self.split)[0]

    def rounds(self, processes: Processes) -> Iterator[list[dict[str, Any]]]:
        """See :class:`~molar_retrieval.models.towers.distributed.GroupJob`."""
        settings = self.settings.model_copy(update={"threads": self.threads})
        for scores in train_rounds(self.data(Workspace(self.root)), settings, self.folder, self.run, processes):
            yield [asdict(score) for score in scores]
            if len(scores) == self.most:
                return


def _train_by(
    group: Group,
    job: TrainingJob,
    data: TrainingData,
    probe: TowerPruning,
    progress: Progress,
    on_epoch: Callable[[EpochScore], None],
) -> tuple[TwoTowerNetwork, TrainingState[EpochScore]]:
    """Have the towers trained by others; the probe is asked here, where count-based models are counted."""
    told = 0
    for most in (PROBED, None) if probe.asks else (None,):
        with closing(group.rounds(replace(job, most=most), progress)) as rounds:
            for scores in rounds:
                for score in scores[told:]:
                    on_epoch(EpochScore(**score))
                told = max(told, len(scores))
        if most is not None:
            ask_probe(data, job.settings, job.folder, job.run, probe)
    return trained(data, job.settings, job.folder, job.run)


def _train(
    workspace: Workspace,
    job: TrainingJob,
    processes: Processes,
    group: Group | None,
    progress: Progress,
    on_epoch: Callable[[EpochScore], None],
) -> dict[str, Any]:
    """Train and count, save the model in the job's folder, and return the facts of its manifest."""
    began, settings = time.perf_counter(), job.settings
    data, conditioner = training_data(workspace, settings, job.split)

    @cache
    def counted() -> CountModels:
        return count_models(data.log, data.cases, data.features, settings, progress, job.least, folder=job.folder)

    probe = TowerPruning(data, settings, counted)
    if group is None:
        asked = probe if probe.asks else None
        network, state = train(
            data, settings, job.folder, job.run, probe=asked, processes=processes, progress=progress, on_epoch=on_epoch
        )
    else:
        network, state = _train_by(group, job, data, probe, progress, on_epoch)
    precision, counts = pick_precision(settings.precision, pick_device(settings.device)), counted()
    given = own_block.fit_data(data.log, data.cases, data.features, settings.seed)
    own = tuple(OwnBlock.fit(one, given) for one in own_block.installed(settings.own_models, job.least))
    numbers = numeric_attributes(Catalogue.open(workspace["catalogue"].require()[0]))
    standards = reranker.describe(numbers)
    model = Ensemble(
        network=network,
        conditioner=conditioner,
        features=data.features,
        known=data.warm,
        item_item=counts.item_item,
        content_knn=counts.content_knn,
        content_knn_axes=None if counts.content_knn is None else counts.content_knn.axes,
        half_life=None if counts.popularity is None else counts.popularity.half_life,
        precision=precision,
        popularity=counts.popularity,
        least=job.least,
        als=data.factors.items,
        numbers=reranker.matrix(numbers, standards, data.log.n_items),
        own=own,
    )
    chosen = choose(model, data, counts, standards, settings)
    model, future, ease_future = with_future_items(
        chosen.model, data.log, counts, settings, progress, data.cases.folder
    )
    holdout = held_out(workspace, job.split)
    repeat = choose_repeat(holdout, network, data, counts, settings, job.least, precision, own)
    if repeat is not None:
        model = repeat.given_to(model)
    save(model, job.folder)
    encoder = workspace["content"].require()[1].settings["encoder"]
    return {
        "encoder": {name: encoder[name] for name in ("name", "fingerprint")},
        "users": data.log.n_users,
        "items": data.log.n_items,
        "cold_items": int((~data.warm).sum()),
        "training_interactions": len(data.log.item),
        "learned_until": learned_until(data.log),
        "validation_cases": len(data.cases),
        "cold_cases": int((~data.warm[data.cases.targets]).sum()),
        "sizes": {
            name: getattr(settings, name) for name in ("embedding_dim", "members", "max_history", "batch_tokens")
        },
        "scores": _scores(data, chosen.blended, chosen.ranks),
        "pruned": {name: gain for score in state.scores for name, gain in score.pruned.items()},
        "future_items": future,
        "models": counts.report | ease_future,
        "repeat": None if repeat is None else repeat.report,
        "curve": [asdict(score) for score in state.scores],
        "best_epoch": state.best.epoch if state.best else 0,
        "seconds": round(time.perf_counter() - began, 1),
        **chosen.facts,
        **described(model),
    }


def training_data(
    workspace: Workspace, settings: AlignSettings, split: SplitSettings, factors: ALSFactors | None = None
) -> tuple[TrainingData, content_features.Conditioner]:
    """What the network trains on, and the map that made its content features; None: with the workspace's factors."""
    holdout = held_out(workspace, split)
    if not len(holdout.training.item):
        raise DataError("no interactions are left for training", "bring a longer log")
    content = ContentVectors.open(workspace["content"].require()[0])
    attributes = hashed_features(Catalogue.open(workspace["catalogue"].require()[0]))
    conditioner = content_features.fit(
        content.vectors, content.blocks, settings.content_components, attributes, ready=content.conditioned
    )
    if factors is None:
        factors = open_factors(workspace["als"].require()[0])
    features = conditioner(content.vectors, attributes, folder=workspace.root)
    cases = replace(ValidationCases.of(holdout), folder=workspace.root)
    cases = cases.select(bounded(len(cases), holdout.training.n_items, settings.seed))
    return TrainingData(holdout.training, cases, features, factors), conditioner


def _scores(data: TrainingData, blended: EnsembleWeights, shipped: Ranks) -> dict[str, dict[str, float]]:
    """Validation scores of what ships, of its parts alone and of two baselines."""
    counts = np.bincount(data.log.item, minlength=data.log.n_items).astype(np.float32)
    users = data.cases.users
    popularity = Dense(np.ones((len(users), 1), np.float32), counts[:, None])
    als = Dense(data.factors.users[users], data.factors.items)
    return {
        "total_popularity": means(ranks(data.cases, popularity.scores)),
        "als": means(ranks(data.cases, als.scores)),
        **{name: means(rank) for name, rank in blended.alone.items()},
        "aligned": means(shipped),
    }


def _inputs(workspace: PinnedWorkspace) -> dict[str, str]:
    version, catalogue = workspace["catalogue"].require()
    _, interactions = workspace["interactions"].require()
    _, content = workspace["content"].require()
    current = is_current(workspace.catalogue, workspace, events=False)  # changed prices are no reason not to train
    if content.inputs.get("catalogue") != catalogue.fingerprint or not current:
        raise StaleArtefactError(
            "the catalogue has changed since its content vectors were made",
            f"run `molar embed {workspace.catalogue}` again",
        )
    attributes = features_digest(Catalogue.open(version))
    return {"content": content.fingerprint, "attributes": attributes, "interactions": interactions.fingerprint}


def _warn_of_memory(read: PinnedWorkspace, progress: Progress) -> None:
    """Say before anything begins that it takes more memory than there is."""
    log, catalogue = (read[kind].require()[1].facts for kind in ("interactions", "catalogue"))
    needed = memory_of_alignment(log["interactions"], log["users"], catalogue["items"], MAX_ITEMS)
    there, _ = memory_of_machine()
    if 0 < there < needed:
        progress.note(
            f"the alignment needs about {words.size(needed)} of memory at its peak; this machine has"
            f" {words.size(there)}: docs/scale.md says what takes how much, and what to do"
        )


def _trained_as(manifest: Manifest, inputs: Mapping[str, str]) -> str:
    """The run that an alignment is of: its own, or where nothing has come since then, that it was derived from."""
    derived = manifest.facts.get("derived")
    same = all(inputs[kind] == manifest.inputs.get(kind, inputs[kind]) for kind in inputs)
    return str(derived["trained"]) if derived is not None and same else manifest.fingerprint


def _report(folder: Path, manifest: Manifest, up_to_date: bool) -> AlignReport:
    facts = dict(manifest.facts)
    curve = [EpochScore(**score) for score in facts.pop("curve")]
    return AlignReport(folder, manifest.fingerprint, up_to_date, facts.pop("scores"), facts, curve)
