"""`molar import`."""

from pathlib import Path
from typing import Annotated

import typer

from molar_cli.options import DebugOption, JsonOption, QuietOption
from molar_cli.session import session


def import_(
    format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="movielens, amazon-2014, amazon-2023, pixelrec or hm.", show_default=False
        ),
    ],
    dir: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the files as published.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the catalogue goes.", show_default=False)],
    photos: Annotated[
        Path | None,
        typer.Option(
            "--images",
            "--posters",
            metavar="FOLDER",
            help="Photos, called by item id; default: DIR/images.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="hm only: an item is a product (default) or an article.", show_default=False)
    ] = None,
    drop_unused: Annotated[
        bool, typer.Option("--drop-unused", help="Leave out items without any interaction.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier import.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn published data, in their official layout, into a catalogue that `molar embed` reads.

    Example: [bold]molar import movielens ml-1m/ --to films/ --posters posters/[/]

    Example: [bold]molar import hm h-and-m/ --to fashion/ --level article[/]
    """
    with session(None, json=json, quiet=quiet, debug=debug) as run:
        from molar_retrieval.importers import import_dataset

        with run.console.progress() as progress:
            report = import_dataset(
                format,
                dir,
                to,
                photos=photos,
                level=level,
                drop_unused=drop_unused,
                overwrite=overwrite,
                progress=progress,
            )
        for note in report.notes:
            run.console.note(note)
        if json:
            run.console.document(report.to_dict())
            return
        for line in report.lines():
            run.console.line(line)
        run.console.note(f"next: molar embed {to}")
