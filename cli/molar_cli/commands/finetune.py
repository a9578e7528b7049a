"""`molar finetune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molar_cli import options
from molar_cli.options import option
from molar_cli.session import INTERRUPTED, Session, command
from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molar_retrieval.finetuning.forecast import FinetuneForecast
    from molar_retrieval.finetuning.report import FinetuneReport, Name


@command()
def finetune(
    run: Session,
    catalog: Annotated[
        Path, typer.Argument(help="Folder with items, images/ and perhaps interactions.", show_default=False)
    ],
    where: options.ConditionOption = None,
    model: Annotated[str | None, option("builtin, CLIP, SigLIP, or a language model: a folder or a hub name.")] = None,
    revision: options.RevisionOption = None,
    output: Annotated[
        Path | None, option("Where the encoder is to lie; default: finetuned in the workspace.", metavar="FOLDER")
    ] = None,
    image_text: Annotated[bool | None, option("A photo must find its title and description.")] = None,
    attributes: Annotated[bool | None, option("Attributes must find the title and description.")] = None,
    behaviour: Annotated[bool | None, option("A history must find the items that come next.")] = None,
    examples: Annotated[int | None, option("Language models: examples of each task to train on.")] = None,
    device: options.DeviceOption = None,
    offline: options.OfflineOption = None,
    trust_remote_code: options.TrustOption = False,
    seed: Annotated[int | None, option("Of what is drawn at random.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--restart", help="Go on from an earlier run, or forget it.")] = True,
    dry_run: Annotated[bool, option("Predict parameters, memory and time, write nothing.", "--dry-run")] = False,
) -> None:
    """Let an encoder learn from the shop which photos, words and attributes go together, and who takes what.

    An encoder that keeps words and photos apart stays as it is, and a head over its vectors is fitted in minutes on a
    laptop. A language model gets an adapter (LoRA), trained in hours on a GPU; an interrupted run writes the best it
    has and goes on when it is called again.

    Example: [bold]molar finetune catalog/[/], then [bold]molar embed catalog/ --model .molar/finetuned[/]

    Example: [bold]molar finetune catalog/ --model Qwen/Qwen3-VL-Embedding-2B --dry-run[/]
    """
    if dry_run and (output is not None or not resume):
        raise SettingsError("--dry-run writes nothing, and --output and --restart say where and how", "leave one out")
    said: dict[str, Any] = {"model": model, "revision": revision, "image_text": image_text, "attributes": attributes}
    said |= {"behaviour": behaviour, "examples": examples, "device": device, "offline": offline, "seed": seed}
    said |= {"where": where, "trust_remote_code": trust_remote_code}
    shop = run.shop(catalog)
    if dry_run:
        _print_forecast(run, shop.finetune_forecast(**said))
        return
    report = shop.finetune(**said, output=output, resume=resume)
    if report is not None:
        _print(run, report)
        if report.interrupted:
            raise typer.Exit(INTERRUPTED)


def _print_forecast(run: Session, forecast: "FinetuneForecast") -> None:
    if run.document(forecast.to_dict()):
        return
    run.console.line(*forecast.lines())
    _print_left_out(run, forecast.left_out)


def _print_left_out(run: Session, left_out: "Mapping[Name, str]") -> None:
    from molar_retrieval.finetuning.report import TASKS

    run.console.note(*(f"left out: {TASKS[name]}: {why}" for name, why in left_out.items()))


def _print(run: Session, report: "FinetuneReport") -> None:
    if run.document(report.to_dict()):
        return
    from molar_retrieval.finetuning.report import MEASURES, TASKS

    rows = [
        (TASKS[task.name], MEASURES[task.name], f"{task.before:.4f}", f"{task.after:.4f}")
        for task in report.tasks
        if task.before is not None and task.after is not None
    ]
    run.console.table(["task, on withheld items", "measure", ">before", ">after"], rows)
    _print_left_out(run, {task.name: task.left_out for task in report.tasks if task.left_out is not None})
    run.console.note(*report.notes)
    took = "up to date" if report.up_to_date else f"{sum(report.seconds.values()):.0f} s"
    run.console.line(f"fine-tuned: {report.folder}  ({report.parameters:,} parameters, {took})")
    run.console.line(f"next: molar embed CATALOG --model {report.folder}")
