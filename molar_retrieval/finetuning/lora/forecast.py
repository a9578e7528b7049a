"""`molar finetune --dry-run` for language models: a small step is taken, and nothing is written."""

from collections.abc import Callable
from time import perf_counter

import torch

from molar_retrieval.embedding.estimate import process_memory
from molar_retrieval.finetuning.forecast import FinetuneForecast
from molar_retrieval.finetuning.lora.examples import Step
from molar_retrieval.finetuning.lora.learner import frozen_vectors
from molar_retrieval.finetuning.lora.run import prepared
from molar_retrieval.finetuning.lora.training import AdapterTrainer
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

_FEW = 2
"""Examples of each task in the small step on a processor, where a large one could take an hour."""


def dry_run(workspace: Workspace, settings: MolarSettings) -> FinetuneForecast:
    """Predict a run from one small step of all its tasks and from vectors without gradients.

    DataError if no task can be done, SettingsError if the settings do not fit the model, BackendError if it is not
    available, or memory is too short.
    """
    began = perf_counter()
    with prepared(workspace, settings) as trainer:
        load = perf_counter() - began
        device, lora = trainer.learner.device.type, trainer.lora
        whole = len(_first(trainer).entries)
        few = min(_FEW if device == "cpu" else lora.chunk, lora.batch)
        trainer.examples = trainer.examples.resized(few)
        entries = _first(trainer).entries
        if device == "cuda":
            trainer.step()  # the first one chooses kernels
            torch.cuda.reset_peak_memory_stats()
        step = _seconds(trainer.step)
        forward = _seconds(lambda: frozen_vectors(trainer.learner, entries, lora.chunk)) / len(entries)
        memory = torch.cuda.max_memory_allocated() if device == "cuda" else process_memory()
        validations = 1 + trainer.steps // trainer.every
        stages = {
            "load": load,
            "steps": trainer.steps * step * whole / len(entries),
            "validation": validations * trainer.validation.inputs * forward,
        }
        notes = [
            f"{trainer.steps:,} steps of {whole} inputs, from one of {len(entries)} that took {step:.1f} s; ± 50 %",
            f"early stopping may end it after {(1 + lora.patience) * trainer.every} steps",
        ]
        if few < lora.chunk:
            notes.append(f"memory is that of {few} inputs in a forward pass; lora.chunk = {lora.chunk} takes more")
        return FinetuneForecast(
            encoder=trainer.learner.encoder.info.name,
            device=device,
            parameters=sum(parameter.numel() for parameter in trainer.learner.trained().values()),
            memory_bytes=memory,
            seconds=round(sum(stages.values()), 1),
            stages={name: round(seconds, 1) for name, seconds in stages.items()},
            left_out={name: why for name, why in trainer.examples.left_out.items() if why is not None},
            notes=tuple(notes),
        )


def _first(trainer: AdapterTrainer) -> Step:
    return trainer.examples.build(trainer.examples.draw(0), trainer.learner.encoder.entry)


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began
