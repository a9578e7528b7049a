"""`molar export`."""

from pathlib import Path
from typing import Annotated

import typer

from molar_cli.options import RulesOption, names, option
from molar_cli.session import Session, command


@command()
def export(
    run: Session,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New, or exported before.")] = Path("device"),
    fields: Annotated[str | None, option("Attributes to show beside the titles.", metavar="NAME,NAME")] = None,
    photos: Annotated[bool, option("Copy small photos as well.", "--photos")] = False,
    rerank: Annotated[
        bool, typer.Option("--rerank/--no-rerank", help="Export the second stage, if there is one.")
    ] = True,
    generation: Annotated[str | None, option("A generation; default: the live one.", metavar="NAME")] = None,
    rules: RulesOption = None,
) -> None:
    """Write the whole index, and a page that answers in a browser by itself: what somebody did stays on their device.

    For shops of up to 20,000 items. Any server of static files can give the folder out; nothing of any user is in it.

    Example: [bold]molar export device/[/]

    Example: [bold]molar export device/ --fields price,category --photos[/]
    """
    written = run.shop().export_device(
        folder,
        fields=() if fields is None else names(fields),
        photos=photos,
        rerank=rerank,
        generation=generation,
        rules=rules,
    )
    if run.document(written.to_dict()):
        return
    run.console.line(
        f"{written.folder}: {written.items:,} items of {written.generation}, {written.bytes / 1e6:.1f} MB",
        "Any server of static files can give it out; index.html shows how it answers.",
    )
    run.console.note(*(f"note: {one}" for one in written.left_out))
