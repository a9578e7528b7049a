"""Fine-tuning: a head over an encoder's vectors, in minutes, or an adapter of a language model, in hours."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from molar.choosing import refuse

if TYPE_CHECKING:
    from molar_retrieval.finetuning.forecast import FinetuneForecast
    from molar_retrieval.finetuning.lora import AdapterScore
    from molar_retrieval.finetuning.report import FinetuneReport
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import MolarSettings


def finetune(
    workspace: "Workspace",
    settings: "MolarSettings",
    target: Path,
    progress: "Progress",
    *,
    where: str | None = None,
    restart: bool = False,
    on_score: "Callable[[AdapterScore], None] | None" = None,
) -> "FinetuneReport | None":
    """Fine-tune the encoder that the settings name into the folder ``target``.

    ``on_score`` is told of each validation of an adapter; None: a note of the progress. Returns None in a process that
    only helps another one of the same launch.
    """
    if not by_gradient(workspace, settings):
        from molar_retrieval.embedding import embed
        from molar_retrieval.finetuning.run import finetune as fit_head
        from molar_retrieval.finetuning.run import unchanged

        _prepare(workspace, settings, progress, where)
        if not restart and (report := unchanged(workspace, settings, target)) is not None:
            return report
        embed(workspace, settings.embed, progress=progress)
        return fit_head(workspace, settings, target, progress)
    from molar_retrieval.finetuning.adapter import finetune as train
    from molar_retrieval.models.towers.distributed import Processes

    processes = Processes.of_launcher()
    if processes.first:
        _prepare(workspace, settings, progress, where)
    processes.agreed(None)
    listener = on_score or (lambda score: progress.note(score_line(score)))
    return train(workspace, settings, target, progress, restart=restart, processes=processes, on_score=listener)


def forecast(
    workspace: "Workspace", settings: "MolarSettings", progress: "Progress", *, where: str | None = None
) -> "FinetuneForecast":
    """What fine-tuning would take."""
    _prepare(workspace, settings, progress, where)
    if by_gradient(workspace, settings):
        from molar_retrieval.finetuning.adapter import dry_run as of_adapter

        return of_adapter(workspace, settings)
    from molar_retrieval.finetuning.forecast import dry_run as of_head

    return of_head(workspace, settings, progress)


def by_gradient(workspace: "Workspace", settings: "MolarSettings") -> bool:
    """Whether the encoder gets an adapter; else it stays as it is and gets a head."""
    from molar_retrieval.embedding.run import digests_of
    from molar_retrieval.encoders import registry
    from molar_retrieval.encoders.sentence import ADAPTABLE

    return registry.describe(settings.embed, digests_of(workspace)).family in ADAPTABLE


def heed_examples(workspace: "Workspace", settings: "MolarSettings", examples: int | None) -> None:
    """Refuse a number of examples, by a SettingsError, where the encoder gets a head."""
    if examples is not None and not by_gradient(workspace, settings):
        why = f"the encoder {settings.embed.model!r} gets a head, which learns from all items"
        refuse({"examples": examples}, why, "leave it out, or name a language model")


def score_line(score: "AdapterScore") -> str:
    """A validation in one line."""
    found = ", ".join(f"{name} {value:.4f}" for name, value in score.scores.items())
    loss = "" if score.loss is None else f"  loss: {score.loss:.3f}"
    return f"step {score.step:>5}  withheld items: {found}{loss}"


def _prepare(workspace: "Workspace", settings: "MolarSettings", progress: "Progress", where: str | None) -> None:
    from molar_retrieval.data.event_history import EventWeights
    from molar_retrieval.data.prepare import prepare_catalogue
    from molar_retrieval.data.prepare_interactions import has_interactions, prepare_interactions

    catalogue = workspace.catalogue
    prepare_catalogue(catalogue, workspace, progress, where=where)
    kinds = EventWeights.of(settings.events.weights)
    if has_interactions(catalogue, workspace, kinds):
        prepare_interactions(catalogue, workspace, progress, kinds=kinds, keep_days=settings.privacy.retention_days)
