"""`molar demo`."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from molar_cli.commands.align import print_aligned
from molar_cli.commands.embed import print_embedded
from molar_cli.commands.query import print_answer
from molar_cli.session import Session, command


@command("workspace", "json")
def demo(
    run: Session,
    folder: Annotated[Path, typer.Argument(help="Where the demo goes; made where it does not exist.")] = Path(
        "molar-demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed makes another shop.")] = 7,
) -> None:
    """Write a small made-up shop and run embed, align and query on it.

    Example: [bold]molar demo[/]
    """
    from molar import demo as write_demo

    made = write_demo(folder, seed=seed, display=run.console.progress)
    shop, facts = made.shop, made.facts
    run.console.line(
        f"A made-up shop in {facts.folder}: {facts.items} items, {facts.users} users,"
        f" {facts.interactions:,} interactions."
    )
    run.console.line(f"\n$ molar embed {facts.folder}")
    print_embedded(run, shop.embed())
    run.console.line("\n$ molar align")
    print_aligned(run, shop.align())
    run.console.line(f"\n$ molar query --user {facts.example_user} -k 5")
    print_answer(run, shop.query(facts.example_user, k=5))
    run.console.line(f"\n$ molar query --user {facts.new_user} -k 5 --fallback popular")
    print_answer(run, shop.query(facts.new_user, k=5, fallback="popular"))
    program = "molar" if shutil.which("molar") else sys.argv[0]
    run.console.line(f"\nTry it yourself: {program} query --user {facts.example_user} --workspace {shop.workspace}")
