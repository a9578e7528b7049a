"""`molar demo`."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from molar_cli.commands.align import align
from molar_cli.commands.embed import embed
from molar_cli.commands.query import query
from molar_cli.options import DebugOption, QuietOption
from molar_cli.session import session
from molar_retrieval.errors import RequestError


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo goes; made where it does not exist.")] = Path(
        "molar-demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed makes another shop.")] = 7,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a small made-up shop and run embed, align and query on it.

    Example: [bold]molar demo[/]
    """
    with session(None, quiet=quiet, debug=debug) as run:
        from molar_retrieval.demo import write_demo_shop

        shop, workspace = folder / "shop", folder / ".molar"
        if folder.exists() and any(folder.iterdir()) and not workspace.exists() and not shop.exists():
            raise RequestError(f"{folder} is not empty and holds no demo", "name a new folder: molar demo FOLDER")
        facts = write_demo_shop(shop, seed=seed)
        run.console.line(
            f"A made-up shop in {shop}: {facts.items} items, {facts.users} users, {facts.interactions:,} interactions."
        )
        common = {"workspace": workspace, "quiet": quiet, "debug": debug}
        run.console.line(f"\n$ molar embed {shop}")
        embed(shop, **common)  # type: ignore[arg-type]
        run.console.line("\n$ molar align")
        align(**common)  # type: ignore[arg-type]
        run.console.line(f"\n$ molar query --user {facts.example_user} -k 5")
        query(user=facts.example_user, k=5, **common)  # type: ignore[arg-type]
        run.console.line(f"\n$ molar query --user {facts.new_user} -k 5 --fallback popular")
        query(user=facts.new_user, k=5, fallback="popular", **common)  # type: ignore[arg-type]
        program = "molar" if shutil.which("molar") else sys.argv[0]
        run.console.line(f"\nTry it yourself: {program} query --user {facts.example_user} --workspace {workspace}")
