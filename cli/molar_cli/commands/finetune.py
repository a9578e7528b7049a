"""`molar finetune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import DebugOption, JsonOption, PartOption, QuietOption, SettingsOption, WorkspaceOption
from molar_cli.session import Session, session

if TYPE_CHECKING:
    from molar_retrieval.finetuning.run import FinetuneReport


def finetune(
    catalog: Annotated[
        Path, typer.Argument(help="Folder with items, images/ and perhaps interactions.", show_default=False)
    ],
    where: PartOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="An encoder that keeps words and photos apart, such as builtin.", show_default=False),
    ] = None,
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
    seed: Annotated[int | None, typer.Option(help="Of what is drawn at random.", show_default=False)] = None,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Let an encoder learn from the shop which photos, words and attributes go together, and who takes what.

    The encoder itself stays as it is; a head over its vectors is fitted in minutes on a laptop.

    Example: [bold]molar finetune catalog/[/], then [bold]molar embed catalog/ --model .molar/finetuned[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_retrieval.catalog import prepare_catalogue
        from molar_retrieval.catalog.sources import find_file
        from molar_retrieval.embedding import embed
        from molar_retrieval.finetuning.run import finetune as tune
        from molar_retrieval.interactions import prepare_interactions
        from molar_retrieval.workspace import Workspace

        flags = {"image_text": image_text, "attributes": attributes, "behaviour": behaviour, "seed": seed}
        chosen = run.settings(settings, embed={"model": model}, finetune=flags)
        place = Workspace.for_catalogue(run.root, catalog)
        target = output or place.root / "finetuned"
        with run.console.progress() as progress:
            prepare_catalogue(catalog, place, progress, where=where)
            embed(place, chosen.embed, progress=progress)
            if find_file(catalog, "interactions") is not None:
                prepare_interactions(catalog, place, progress)
            report = tune(place, chosen, target, progress)
        _tell(run, report)


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
    for task in report.tasks:
        if task.left_out is not None:
            run.console.note(f"left out: {TASKS[task.name]}: {task.left_out}")
    seconds = sum(report.seconds.values())
    run.console.line(f"fine-tuned: {report.folder}  ({report.parameters:,} parameters, {seconds:.0f} s)")
    run.console.line(f"next: molar embed CATALOG --model {report.folder}")
