"""`molar finetune` for language models: from a catalogue and its log to a folder that `molar embed --model` takes."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import head, registry
from molar_retrieval.encoders.base import quiet, terms_note
from molar_retrieval.encoders.checkpoint import main_folder
from molar_retrieval.errors import DataError
from molar_retrieval.finetuning.lora.examples import ExampleSampler
from molar_retrieval.finetuning.lora.items import Photos, TrainingItems
from molar_retrieval.finetuning.lora.learner import Learner, load
from molar_retrieval.finetuning.lora.training import AdapterScore, AdapterTrainer
from molar_retrieval.finetuning.lora.validation import AdapterValidation
from molar_retrieval.finetuning.report import ADAPTED, TASKS, FinetuneReport, TaskOutcome, card
from molar_retrieval.models.als import held_out
from molar_retrieval.models.towers.distributed import ALONE, Processes
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import write_atomically
from molar_retrieval.workspace.pinned import pin, pin_named
from molar_retrieval.workspace.settings import MolarSettings
from molar_retrieval.workspace.tensors import Mask

VERSION = 1
_ADAPTER = "adapter"
"""The folder of the adapter beside the merged model."""
_THREADS = 8
_WORK = "molar finetune"
_POOL = "the withheld items, and what the histories hold"


@dataclass(frozen=True, eq=False)
class Lessons:
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
    lessons: Lessons | None = None,
) -> FinetuneReport | None:
    """Train an adapter of a language model by the three tasks, and write the encoder.

    Only training interactions, if there are any, are read: what validates `molar align` is left out here as well; or,
    where there are ``lessons``, these in place of the workspace's log, and no items but theirs. An
    interrupted run writes the best it has, and goes on when it is called again, unless it is to ``restart``. All
    processes call this with the same arguments; the first gets the report.

    Raises:
        DataError: If no task can be done, or the folder holds something else.
        SettingsError: If the settings do not fit the model.
        BackendError: If the model is not available, memory is too short, or the training diverges.
    """
    head.check_target(folder)
    began = time.perf_counter()
    work = folder.with_name(f".{folder.name}.training")
    if restart and processes.first:
        shutil.rmtree(work, ignore_errors=True)
    processes.agreed(None)
    with prepared(workspace, settings, processes, lessons) as trainer:
        ready = time.perf_counter()
        if processes.first and (told := terms_note(trainer.learner.encoder.info)) is not None:
            progress.note(told)
        best = trainer.train(work, progress, on_score)
        if not processes.first:
            return None
        assert best is not None
        seconds = {"load": round(ready - began, 1), "train": round(time.perf_counter() - ready, 1)}
        report = _report(trainer, best, folder, seconds)
        info = trainer.learner.encoder.info
        account = {
            **report.account(),
            "embed": {"prompt": info.settings["prompt"], "dim": settings.embed.dim},
            "revision": info.revision,
            "settings": settings.model_dump(mode="json", include={"finetune", "lora"}),
            "scores": [asdict(score) for score in trainer.state.scores],
        }
        text = card(report, asdict(info), ADAPTED, _POOL)
        write(folder, trainer.learner, account, text, merged=settings.lora.merged)
        if trainer.done:
            shutil.rmtree(work, ignore_errors=True)
        return report


@contextmanager
def prepared(
    workspace: Workspace, settings: MolarSettings, processes: Processes = ALONE, lessons: Lessons | None = None
) -> Iterator[AdapterTrainer]:
    """A run before its first step: data read, model loaded; threads that open photos end with the block.

    DataError if no task can be done, StaleArtefactError if the log is not of the catalogue.
    """
    own = pin(workspace, "catalogue", optional=() if lessons else ("interactions",), work=_WORK)
    inputs = pin_named(workspace, processes.agreed(own.names), _WORK)
    version, manifest = inputs["catalogue"].require()
    tasks, lora, embed = settings.finetune, settings.lora, settings.embed
    known, log = (None, None) if lessons is None else (lessons.fingerprint, lessons.log)
    if "interactions" in inputs.names:
        known, log = inputs["interactions"].require()[1].fingerprint, held_out(inputs, settings.split).training
    learn = None if lessons is None else lessons.learn
    data = TrainingItems.read(Catalogue.open(version), log, tasks.withheld, lora.validation, tasks.seed, learn)
    if processes.several and embed.device == "auto":
        embed = embed.model_copy(update={"device": str(processes.device)})
    cache = digests_of(workspace)
    info = registry.describe(embed, cache)
    with inputs, ThreadPoolExecutor(_THREADS, "molar-photos") as pool:
        photos = Photos(data, pool)
        examples = ExampleSampler(data, photos, tasks, lora, sees="image" in info.modalities)
        if not examples.tasks:
            reasons = "; ".join(f"{TASKS[name]}: {why}" for name, why in examples.left_out.items())
            raise DataError(f"there is nothing to learn: {reasons}", "add what is missing, or switch a task on")
        learner = load(embed, lora, tasks.seed, cache)
        chosen = settings.model_dump(mode="json", include={"finetune", "lora", "split"})
        made_from = [manifest.fingerprint, known, info.fingerprint]
        run = fingerprint.of_json([VERSION, *made_from, chosen, processes.count])
        yield AdapterTrainer(learner, examples, AdapterValidation(examples, photos), lora, run, processes)


def _report(trainer: AdapterTrainer, best: AdapterScore, folder: Path, seconds: dict[str, float]) -> FinetuneReport:
    examples, state, learner = trainer.examples, trainer.state, trainer.learner
    before, data = state.scores[0].scores, trainer.examples.data
    notes = []
    if trainer.lora.generate and learner.head is None:
        notes.append("the model cannot write, so it only learned to find")
    if data.broken:
        row, why = next(iter(data.broken.items()))
        notes.append(
            f"{len(data.broken)} photos could not be read and were left out, such as {data.photos[row]}: {why}"
        )
    if best.step == 0:
        notes.append("no step made withheld items easier to find, so the encoder is written as it was")
    if not trainer.done:
        notes.append(f"interrupted after {state.step} of {trainer.steps} steps: the best so far is written")
    return FinetuneReport(
        folder=folder,
        encoder=learner.encoder.info.name,
        items=len(data),
        interactions=0 if data.log is None else len(data.log),
        withheld=len(data.withheld),
        tasks=tuple(
            TaskOutcome(name, before[name], best.scores[name]) if why is None else TaskOutcome(name, left_out=why)
            for name, why in examples.left_out.items()
        ),
        chosen={"step": best.step, "steps": trainer.steps, "score": best.value},
        parameters=sum(parameter.numel() for parameter in learner.trained().values()),
        seconds=seconds,
        notes=tuple(notes),
        interrupted=not trainer.done,
    )


def _still_a_language_model(folder: Path, architectures: list[str]) -> None:
    """A model is saved as what is under its head; by its name it is told what it is, and in which precision it runs."""
    place = main_folder(folder, json.loads((folder / "modules.json").read_text("utf-8"))) / "config.json"
    config = {**json.loads(place.read_text("utf-8")), "architectures": architectures}
    write_atomically(place, json.dumps(config, indent=2))


def write(folder: Path, learner: Learner, account: Mapping[str, Any], text: str, *, merged: bool) -> None:
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
