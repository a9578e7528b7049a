"""`molar import`."""

from pathlib import Path
from typing import Annotated

import typer

from molar_cli.options import option
from molar_cli.session import Session, command


@command("workspace", "settings")
def import_(
    run: Session,
    format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="movielens, amazon-2014, amazon-2023, pixelrec or hm.", show_default=False
        ),
    ],
    dir: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the files as published.", show_default=False)],
    to: Annotated[Path, option("Where the catalogue goes.", "--to", metavar="FOLDER")],
    photos: Annotated[
        Path | None,
        option("Photos, called by item id; default: DIR/images.", "--images", "--posters", metavar="FOLDER"),
    ] = None,
    level: Annotated[str | None, option("hm only: an item is a product (default) or an article.")] = None,
    overwrite: Annotated[bool, option("Replace an earlier import.", "--overwrite")] = False,
) -> None:
    """Turn published data, in their official layout, into a catalogue that `molar embed` reads.

    Example: [bold]molar import movielens ml-1m/ --to films/ --posters posters/[/]

    Example: [bold]molar import hm h-and-m/ --to fashion/ --level article[/]
    """
    from molar import import_dataset

    report = import_dataset(
        format, dir, to, photos=photos, level=level, overwrite=overwrite, display=run.console.progress
    )
    run.console.note(*report.notes)
    if run.document(report.to_dict()):
        return
    run.console.line(*report.lines())
    run.console.note(f"next: molar embed {to}")
