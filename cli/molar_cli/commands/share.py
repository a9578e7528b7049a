"""`molar privacy share`."""

from pathlib import Path
from typing import Annotated

import typer

from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.errors import DataError


@command()
def share(
    run: Session,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where it goes.", show_default=False)],
    epsilon: Annotated[float | None, option("For each person; default: privacy.epsilon.")] = None,
    items: Annotated[
        Path | None, option("Ids of the items it may tell of, one a line; default: all.", metavar="FILE")
    ] = None,
    like: Annotated[
        Path | None, option("Tell what items look like in the terms of another shop's file.", metavar="FILE")
    ] = None,
    shops: Annotated[int | None, option("How many shops of about this size add up.", min=1)] = None,
) -> None:
    """Write statistics with noise as a file for other shops, who add them up with `molar align --with`.

    Only noised sums, ids of items and public parameters are in it. A release of the same log is found again, and costs
    nothing; else there is one, which the ledger counts.

    Example: [bold]molar privacy share ours.statistics --epsilon 4 --shops 5[/]

    Example: [bold]molar privacy share ours.statistics --items joint.txt --like theirs.statistics[/]
    """
    chosen = None if items is None else _lines(items)
    done = run.shop().privacy.share(out, epsilon=epsilon, items=chosen, like=like, shops=shops)
    if run.document(done.to_dict()):
        return
    cost = "released now" if done.released else "as it was released before: no cost"
    looks = "what is taken after what looks like what" if done.transitions else "nothing of looks: too few people"
    run.console.line(
        f"{done.path}: {done.items:,} items, ε = {done.epsilon:g}, δ = {done.delta:g} for each person, {cost}",
        f"in it: popularity, {looks}, {done.pairs:,} pairs of items",
    )
    if done.absent:
        run.console.note(f"{done.absent:,} items of {items} are not in the statistics")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8-sig").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "name a text file of ids, one a line") from error
