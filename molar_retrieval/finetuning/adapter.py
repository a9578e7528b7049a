"""`molar finetune` for language models: from a catalogue and its log to a folder that `molar embed --model` takes."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.embedding.estimate import process_memory
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import head, registry
from molar_retrieval.encoders.base import quiet, terms_note
from molar_retrieval.encoders.checkpoint import main_folder
from molar_retrieval.errors import DataError
from molar_retrieval.finetuning.forecast import FinetuneForecast
from molar_retrieval.finetuning.lora import VALIDATIONS, AdaptedEncoder, AdapterScore, LoraTrainer, load
from molar_retrieval.finetuning.report import ADAPTED, TASKS, FinetuneReport, TaskOutcome, card
from molar_retrieval.finetuning.tasks import TaskData
from molar_retrieval.models.als import held_out
from molar_retrieval.models.towers.distributed import ALONE, Processes
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import write_atomically
from molar_retrieval.workspace.pinned import pin, pin_named
from molar_retrieval.workspace.settings import MolarSettings
from molar_retrieval.workspace.tensors import Mask

VERSION = 2
_ADAPTER = "adapter"
"""The folder of the adapter beside the merged model."""
_WORK = "molar finetune"
_POOL = "the withheld items, and what comes before them in histories"
_FEW = 2
"""Pairs of each task in the small step of a forecast on a processor, where a large one could take an hour."""


@dataclass(frozen=True, eq=False)
class SplitData:
    """What an evaluation lets training see: a log of its own, and which items there are to learn from, (n_items,)."""

    log: Interactions
    learn: Mask

    @property
    def fingerprint(self) -> str:
        """Changes with the log and the items."""
        arrays = (self.log.item, self.log.offsets, self.learn)
        return fingerprint.of_bytes(np.ascontiguousarray(array).data for array in arrays)


def finetune(
    workspace: Workspace,
    settings: MolarSettings,
    folder: Path,
    progress: Progress = SILENT,
    *,
    restart: bool = False,
    processes: Processes = ALONE,
    on_score: Callable[[AdapterScore], None] = lambda _: None,
    split: SplitData | None = None,
) -> FinetuneReport | None:
    """Train an adapter of a language model by the three tasks, and write the encoder.

    Only training interactions, if there are any, are read: what validates `molar align` is left out here as well; or
    the data of a ``split`` in place of the workspace's log. An interrupted run writes the best it has, and goes on when
    it is called again, unless it is to ``restart``. All processes call this with the same arguments; the first gets the
    report.

    Raises:
        DataError: If no task can be done, or the folder holds something else.
        SettingsError: If the settings do not fit the model.
        BackendError: If the model or a package is not available, memory is too short, or the training diverges.
        StaleArtefactError: If what an earlier run left cannot be read, or the log is not of the catalogue.
    """
    head.check_target(folder)
    began = time.perf_counter()
    work = folder.with_name(f".{folder.name}.training")
    if restart and processes.first:
        shutil.rmtree(work, ignore_errors=True)
    processes.agreed(None)
    with torch.random.fork_rng(), prepared(workspace, settings, processes, split) as (data, learner, run):
        if processes.first and (told := terms_note(learner.encoder.info)) is not None:
            progress.note(told)
        seed = settings.finetune.seed
        trainer = LoraTrainer(
            learner, data, settings.lora, work, run, seed, processes=processes, progress=progress, on_score=on_score
        )
        ready = time.perf_counter()
        progress.note("asking about withheld items, before the first step and on the way ...")
        best = trainer.fit()
        if not processes.first or best is None:
            return None
        seconds = {"load": round(ready - began, 1), "train": round(time.perf_counter() - ready, 1)}
        report = _report(trainer, best, folder, seconds)
        info = learner.encoder.info
        account = {
            **report.account(),
            "embed": {"prompt": info.settings["prompt"], "dim": settings.embed.dim},
            "revision": info.revision,
            "settings": settings.model_dump(mode="json", include={"finetune", "lora"}),
            "scores": [asdict(score) for score in trainer.kept],
        }
        write(folder, learner, account, card(report, asdict(info), ADAPTED, _POOL), merged=settings.lora.merged)
        if trainer.done:
            shutil.rmtree(work, ignore_errors=True)
        return report


def dry_run(workspace: Workspace, settings: MolarSettings) -> FinetuneForecast:
    """Predict a run from small steps of all its tasks and from vectors without gradients; writes nothing.

    Raises as :func:`finetune`.
    """
    began, lora, steps = time.perf_counter(), settings.lora, -(-settings.lora.n_examples // settings.lora.batch)
    with torch.random.fork_rng(), prepared(workspace, settings) as (data, learner, run), TemporaryDirectory() as work:
        loaded, device, seed = time.perf_counter() - began, learner.device.type, settings.finetune.seed
        few = min(_FEW if device == "cpu" else lora.mini_batch_size, lora.batch)
        small = lora.model_copy(update={"batch": few, "n_examples": 2 * few})
        trainer = LoraTrainer(learner, data, small, Path(work), run, seed, validates=False)
        trainer.fit()  # two steps; the first one chooses kernels
        some = data.inputs([int(code) for name in data.tasks for code in data.draw(name, few).ravel()])
        began = time.perf_counter()
        learner.encoder.encode(some)
        forward = (time.perf_counter() - began) / len(some)
        every, step = lora.validate_every or -(-steps // VALIDATIONS), trainer.step_seconds
        whole = len(some) * lora.batch // few
        stages = {
            "load": loaded,
            "steps": steps * step * whole / len(some),
            "validation": (1 + -(-steps // every)) * data.asked * forward,
        }
        notes = [
            f"{steps:,} steps of {whole} inputs, from one of {len(some)} that took {step:.1f} s; ± 50 %",
            f"early stopping may end it after {min(steps, (1 + lora.patience) * every)} steps",
        ]
        if few < lora.mini_batch_size:
            notes.append(
                f"memory is that of {few} inputs in a forward pass;"
                f" lora.mini_batch_size = {lora.mini_batch_size} takes more"
            )
        return FinetuneForecast(
            encoder=learner.encoder.info.name,
            device=device,
            parameters=learner.parameters,
            memory_bytes=torch.cuda.max_memory_allocated() if device == "cuda" else process_memory(),
            seconds=round(sum(stages.values()), 1),
            stages={name: round(seconds, 1) for name, seconds in stages.items()},
            left_out={name: why for name, why in data.left_out.items() if why is not None},
            notes=tuple(notes),
        )


@contextmanager
def prepared(
    workspace: Workspace, settings: MolarSettings, processes: Processes = ALONE, split: SplitData | None = None
) -> Iterator[tuple[TaskData, AdaptedEncoder, str]]:
    """The data of a run, the encoder with its adapter, and the run's fingerprint; inputs stay until the block ends."""
    own = pin(workspace, "catalogue", optional=() if split else ("interactions",), work=_WORK)
    with pin_named(workspace, processes.agreed(own.names), _WORK) as read:
        version, manifest = read["catalogue"].require()
        embed = settings.embed
        known, log, learn = (None, None, None) if split is None else (split.fingerprint, split.log, split.learn)
        if "interactions" in read.names:
            known, log = read["interactions"].require()[1].fingerprint, held_out(read, settings.split).training
        if processes.several and embed.device == "auto":
            embed = embed.model_copy(update={"device": str(processes.device)})
        cache = digests_of(workspace)
        info = registry.describe(embed, cache)
        data = TaskData(Catalogue.open(version), log, settings.finetune, sees="image" in info.modalities, learn=learn)
        if not data.tasks:
            reasons = "; ".join(f"{TASKS[name]}: {why}" for name, why in data.left_out.items())
            raise DataError(f"there is nothing to learn: {reasons}", "add what is missing, or switch a task on")
        chosen = settings.model_dump(mode="json", include={"finetune", "lora", "split"})
        run = fingerprint.of_json([VERSION, manifest.fingerprint, known, info.fingerprint, chosen, processes.count])
        yield data, load(embed, settings.lora, settings.finetune.seed, cache), run


def _report(trainer: LoraTrainer, best: AdapterScore, folder: Path, seconds: dict[str, float]) -> FinetuneReport:
    data, before = trainer.data, trainer.kept[0].scores
    notes = []
    if data.broken:
        row, why = next(iter(data.broken.items()))
        notes.append(
            f"{len(data.broken)} photos could not be read and were left out, such as {data.photos[row]}: {why}"
        )
    if best.step == 0:
        notes.append("no step made withheld items easier to find, so the encoder is written as it was")
    if not trainer.done:
        notes.append(f"interrupted after {trainer.taken} of {trainer.steps} steps: the best so far is written")
    return FinetuneReport(
        folder=folder,
        encoder=trainer.learner.encoder.info.name,
        items=len(data),
        interactions=0 if data.log is None else len(data.log),
        withheld=len(data.withheld),
        tasks=tuple(
            TaskOutcome(name, before[name], best.scores[name]) if why is None else TaskOutcome(name, left_out=why)
            for name, why in data.left_out.items()
        ),
        chosen={"step": best.step, "steps": trainer.steps, "score": best.value},
        parameters=trainer.learner.parameters,
        seconds=seconds,
        notes=tuple(notes),
        interrupted=not trainer.done,
    )


def _still_a_language_model(folder: Path, architectures: list[str]) -> None:
    """A model is saved as what is under its head; by its name it is told what it is, and in which precision it runs."""
    place = main_folder(folder, json.loads((folder / "modules.json").read_text("utf-8"))) / "config.json"
    config = {**json.loads(place.read_text("utf-8")), "architectures": architectures}
    write_atomically(place, json.dumps(config, indent=2))


def write(folder: Path, learner: AdaptedEncoder, account: Mapping[str, Any], text: str, *, merged: bool) -> None:
    """Write the encoder that `molar embed` takes, its account and model card; merging ends the learner's life as one.

    ``merged`` writes the whole model with the adapter merged, and the adapter in a folder of its own; else that alone.
    An encoder that the folder held before stays until this one is complete; DataError if it holds something else.
    """
    made = head.staging_folder(folder)
    place = made / _ADAPTER if merged else made
    learner.adapted.save_pretrained(str(place), save_embedding_layers=False)  # else peft asks the hub for its name
    head.write_account(place, account)
    if merged:
        transformer: Any = learner.encoder.model[0]
        architectures = transformer.model.config.architectures
        transformer.model = learner.adapted.merge_and_unload()
        if prompt := learner.encoder.info.settings["prompt"]:
            learner.encoder.model.prompts = {**learner.encoder.model.prompts, "document": str(prompt)}
        with quiet():
            learner.encoder.model.save(str(made), create_model_card=False)
        _still_a_language_model(made, architectures)
        head.write_account(made, account)
    for readme in {made, place}:
        (readme / head.CARD).write_text(text, "utf-8")
    head.swap_folder(folder, made)
