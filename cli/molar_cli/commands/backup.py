"""`molar backup`, `molar restore`."""

from pathlib import Path
from typing import Annotated

import typer

from molar_cli.session import Session, command


@command()
def backup(
    run: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive; a former one is replaced.")],
) -> None:
    """Write the whole shop into one archive, while it answers and takes events: `molar restore` makes a shop of it.

    Settings and rules, the catalogue with its photos, the event log, keys, experiments, the live index version and
    what the next update builds on. It has personal data in it; nobody but its owner can read it.

    Example: [bold]molar backup /backups/shop.tar.gz[/]
    """
    found = run.shop().backup(file)
    if run.document(found.to_dict()):
        return
    run.console.line(
        f"{found.file}: {found.files:,} files, {found.file.stat().st_size / 1e6:,.1f} MB;"
        f" index version {found.generation or 'none'}, events up to {found.events:,}"
    )
    run.console.note(*found.notes)


@command("workspace", "settings")
def restore(
    run: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `molar backup` wrote.", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the shop goes: new, or empty.", show_default=False)
    ],
) -> None:
    """Make a shop of a backup, in a new folder; it appears when everything in the archive was checked.

    Example: [bold]molar restore /backups/shop.tar.gz /srv/shop[/]
    """
    import molar

    found = molar.restore(file, folder, display=run.console.progress)
    if run.document(found.to_dict()):
        return
    run.console.line(
        f"{found.folder}: the shop of {found.backup.created}, index version {found.backup.generation or 'none'},"
        f" events up to {found.backup.events:,}"
    )
    run.console.note(*found.notes)
