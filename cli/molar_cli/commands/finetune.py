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

    from molar_retrieval.finetuning.fit import Name
    from molar_retrieval.finetuning.forecast import FinetuneForecast
    from molar_retrieval.finetuning.run import FinetuneReport


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
        shop = run.shop(catalog, settings)
        if dry_run:
            _tell_forecast(
                run,
                shop.finetune_forecast(
                    model=model,
                    revision=revision,
                    image_text=image_text,
                    attributes=attributes,
                    behaviour=behaviour,
                    examples=examples,
                    device=device,
                    offline=offline,
                    seed=seed,
                    where=where,
                    trust_remote_code=trust_remote_code,
                ),
            )
            return
        report = shop.finetune(
            model=model,
            revision=revision,
            output=output,
            image_text=image_text,
            attributes=attributes,
            behaviour=behaviour,
            examples=examples,
            device=device,
            offline=offline,
            seed=seed,
            resume=resume,
            where=where,
            trust_remote_code=trust_remote_code,
        )
        if report is not None:
            _tell(run, report)
            if report.interrupted:
                raise typer.Exit(INTERRUPTED)


def _tell_forecast(run: Session, forecast: "FinetuneForecast") -> None:
    if run.console.as_json:
        run.console.document(forecast.to_dict())
        return
    for line in forecast.lines():
        run.console.line(line)
    _tell_left_out(run, forecast.left_out)


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
