"""`molar finetune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import (
    DebugOption,
    JsonOption,
    PartOption,
    QuietOption,
    SettingsOption,
    TrustOption,
    WorkspaceOption,
)
from molar_cli.session import INTERRUPTED, Session, session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molar_retrieval.config import MolarSettings
    from molar_retrieval.finetuning.fit import Name
    from molar_retrieval.finetuning.lora.checkpoint import Score
    from molar_retrieval.finetuning.run import FinetuneReport
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace import Workspace


def finetune(
    catalog: Annotated[
        Path, typer.Argument(help="Folder with items, images/ and perhaps interactions.", show_default=False)
    ],
    where: PartOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="builtin, CLIP, SigLIP, or a language model: a folder or a hub name.", show_default=False),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of a hub model.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the encoder is to lie; default: finetuned in the workspace.",
            show_default=False,
        ),
    ] = None,
    image_text: Annotated[
        bool | None, typer.Option(help="A photo must find its title and description.", show_default=False)
    ] = None,
    attributes: Annotated[
        bool | None, typer.Option(help="Attributes must find the title and description.", show_default=False)
    ] = None,
    behaviour: Annotated[
        bool | None, typer.Option(help="A history must find the items that come next.", show_default=False)
    ] = None,
    examples: Annotated[
        int | None, typer.Option(help="Language models: examples of each task to train on.", show_default=False)
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", show_default=False)] = None,
    offline: Annotated[
        bool | None, typer.Option("--offline", help="Never ask a model hub.", show_default=False)
    ] = None,
    trust_remote_code: TrustOption = False,
    seed: Annotated[int | None, typer.Option(help="Of what is drawn at random.", show_default=False)] = None,
    resume: Annotated[bool, typer.Option("--resume/--restart", help="Go on from an earlier run, or forget it.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Predict parameters, memory and time, write nothing.")
    ] = False,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Let an encoder learn from the shop which photos, words and attributes go together, and who takes what.

    An encoder that keeps words and photos apart stays as it is, and a head over its vectors is fitted in minutes on a
    laptop. A language model gets an adapter (LoRA), trained in hours on a GPU; an interrupted run writes the best it
    has and goes on when it is called again.

    Example: [bold]molar finetune catalog/[/], then [bold]molar embed catalog/ --model .molar/finetuned[/]

    Example: [bold]molar finetune catalog/ --model Qwen/Qwen3-VL-Embedding-2B --dry-run[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_retrieval.embedding.run import digests_of
        from molar_retrieval.encoders import registry
        from molar_retrieval.encoders.adapter import FAMILIES

        flags = {"image_text": image_text, "attributes": attributes, "behaviour": behaviour, "seed": seed}
        embed = {"model": model, "revision": revision, "device": device, "offline": offline}
        chosen = run.settings(
            settings, trust=trust_remote_code, embed=embed, finetune=flags, lora={"examples": examples}
        )
        target = output or run.root / "finetuned"
        with run.workspace_of(catalog, dry=dry_run) as place, run.console.progress() as progress:
            by_gradient = registry.describe(chosen.embed, digests_of(place)).family in FAMILIES
            if dry_run:
                _prepare(catalog, place, progress, where)
                _forecast(run, place, chosen, progress, by_gradient=by_gradient)
                return
            if by_gradient:
                report = _train(run, catalog, place, chosen, target, progress, where, restart=not resume)
            else:
                report = _fit(catalog, place, chosen, target, progress, where, restart=not resume)
        if report is not None:
            _tell(run, report)
            if report.interrupted:
                raise typer.Exit(INTERRUPTED)


def _prepare(catalog: Path, place: "Workspace", progress: "Progress", where: str | None) -> None:
    from molar_retrieval.catalog import prepare_catalogue
    from molar_retrieval.catalog.sources import find_file
    from molar_retrieval.interactions import prepare_interactions

    prepare_catalogue(catalog, place, progress, where=where)
    if find_file(catalog, "interactions") is not None:
        prepare_interactions(catalog, place, progress)


def _fit(
    catalog: Path,
    place: "Workspace",
    chosen: "MolarSettings",
    target: Path,
    progress: "Progress",
    where: str | None,
    *,
    restart: bool,
) -> "FinetuneReport":
    """A head, in minutes; nothing where it is there."""
    from molar_retrieval.embedding import embed
    from molar_retrieval.finetuning.run import finetune as tune
    from molar_retrieval.finetuning.run import unchanged

    _prepare(catalog, place, progress, where)
    if not restart and (report := unchanged(place, chosen, target)) is not None:
        return report
    embed(place, chosen.embed, progress=progress)
    return tune(place, chosen, target, progress)


def _train(
    run: Session,
    catalog: Path,
    place: "Workspace",
    chosen: "MolarSettings",
    target: Path,
    progress: "Progress",
    where: str | None,
    *,
    restart: bool,
) -> "FinetuneReport | None":
    """An adapter; of several processes the first one prepares the data."""
    from molar_retrieval.alignment.processes import Processes
    from molar_retrieval.finetuning.lora.run import finetune as train

    processes = Processes.of_launcher()
    if processes.first:
        _prepare(catalog, place, progress, where)
    processes.agreed(None)
    return train(
        place,
        chosen,
        target,
        progress,
        restart=restart,
        processes=processes,
        on_score=lambda score: _curve(run, score),
    )


def _forecast(
    run: Session, place: "Workspace", chosen: "MolarSettings", progress: "Progress", *, by_gradient: bool
) -> None:
    if by_gradient:
        from molar_retrieval.finetuning.lora.forecast import dry_run as of_adapter

        forecast = of_adapter(place, chosen)
    else:
        from molar_retrieval.finetuning.forecast import dry_run as of_head

        forecast = of_head(place, chosen, progress)
    if run.console.as_json:
        run.console.document(forecast.to_dict())
        return
    for line in forecast.lines():
        run.console.line(line)
    _tell_left_out(run, forecast.left_out)


def _curve(run: Session, score: "Score") -> None:
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in score.losses.items())
    found = ", ".join(f"{name} {value:.4f}" for name, value in score.scores.items())
    run.console.note(f"step {score.step:>5}  withheld items: {found}" + (f"  losses: {losses}" if losses else ""))


def _tell_left_out(run: Session, left_out: "Mapping[Name, str]") -> None:
    from molar_retrieval.finetuning.card import TASKS

    for name, why in left_out.items():
        run.console.note(f"left out: {TASKS[name]}: {why}")


def _tell(run: Session, report: "FinetuneReport") -> None:
    if run.console.as_json:
        run.console.document(report.to_dict())
        return
    from molar_retrieval.finetuning.card import MEASURES, TASKS

    rows = [
        (TASKS[task.name], MEASURES[task.name], f"{task.before:.4f}", f"{task.after:.4f}")
        for task in report.tasks
        if task.before is not None and task.after is not None
    ]
    run.console.table(["task, on withheld items", "measure", ">before", ">after"], rows)
    _tell_left_out(run, {task.name: task.left_out for task in report.tasks if task.left_out is not None})
    for note in report.notes:
        run.console.note(note)
    took = "up to date" if report.up_to_date else f"{sum(report.seconds.values()):.0f} s"
    run.console.line(f"fine-tuned: {report.folder}  ({report.parameters:,} parameters, {took})")
    run.console.line(f"next: molar embed CATALOG --model {report.folder}")
