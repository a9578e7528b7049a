"""`molar demo`."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.commands.align import print_aligned
from molar_cli.commands.embed import print_embedded
from molar_cli.commands.query import print_answer
from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.pages import words

if TYPE_CHECKING:
    from molar.sources import Demo


@command("workspace", "json")
def demo(
    run: Session,
    folder: Annotated[Path, typer.Argument(help="Where the demo goes; made where it does not exist.")] = Path(
        "molar-demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed makes another shop.")] = 7,
    days: Annotated[int | None, option("Let it live for so many days, and write days.html.", metavar="DAYS")] = None,
) -> None:
    """Write a small made-up shop and run embed, align and query on it; let it live for some days.

    Example: [bold]molar demo[/]

    Example: [bold]molar demo a-fortnight --days 14[/]
    """
    from molar import demo as write_demo

    made = write_demo(folder, seed=seed, arriving=days is not None, display=run.console.progress)
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
    if days is not None:
        _live(run, made, days, folder)
    program = "molar" if shutil.which("molar") else sys.argv[0]
    run.console.line(f"\nTry it yourself: {program} query --user {facts.example_user} --workspace {shop.workspace}")


def _live(run: Session, made: "Demo", days: int, folder: Path) -> None:
    """Let the shop live, and print what each day was like."""
    run.console.line(f"\n{words.plural(days, 'day')}: events every five minutes, molar update every night")
    report = made.live(days)
    columns = (">day", ">visits", ">bought", ">known", ">churn", ">new, shown", ">new, items", ">NDCG@10", ">update")
    rows = [
        [
            day.day,
            day.visits,
            day.purchases,
            words.NONE if day.visible is None else words.percent(day.visible),
            words.NONE if day.churn is None else f"{day.churn:.1f}",
            words.percent(day.arrived, 1),
            words.percent(day.arrived_items, 1),
            words.fraction(day.ndcg),
            words.duration(day.update),
        ]
        for day in report.days
    ]
    run.console.table(columns, rows)
    run.console.line(f"page: {report.write_page(folder / 'days.html')}")
