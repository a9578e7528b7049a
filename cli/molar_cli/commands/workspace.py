"""`molar workspace`."""

from pathlib import Path
from typing import Annotated

import typer

from molar_cli.options import option
from molar_cli.session import Session, command

app = typer.Typer(help="The folder with all that molar makes of a catalogue.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    pass


@app.command()
@command()
def move(
    run: Session,
    new: Annotated[
        Path | None, typer.Argument(help="Where it goes, a new folder; default: it stays.", show_default=False)
    ] = None,
    to_catalog: Annotated[Path | None, option("Where its catalogue is now.", "--catalog", metavar="DIR")] = None,
) -> None:
    """Move the workspace, or say where its catalogue is now; vectors and generations stay what they are.

    Both may also be moved together by `mv`.

    Example: [bold]molar workspace move /mnt/fast/shop.molar[/]

    Example: [bold]molar workspace move --catalog /data/shop[/]
    """
    shop = run.shop().move(new, catalogue=to_catalog)
    if run.document({"workspace": str(shop.workspace), "catalogue": str(shop.folder())}):
        return
    run.console.line(f"workspace: {shop.workspace}", f"catalogue: {shop.folder()}")
    if new is not None:
        run.console.note(f"elsewhere, name it: --workspace {shop.workspace}, or MOLAR_WORKSPACE")
