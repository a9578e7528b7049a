"""`molar events append|tail|compact|export`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molar_cli import options
from molar_cli.options import option
from molar_cli.session import Session, command

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(help="What people and the catalogue did: append, look at, seal, write out.", no_args_is_help=True)
_SHOWN = 10


@app.command()
@command()
def append(
    run: Session,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="JSONL, CSV or Parquet; -: JSON lines from a pipe.", show_default=False),
    ],
) -> None:
    """Append events; what is acknowledged survives a kill and a loss of power, what comes again is only counted.

    A file in the format of the catalogue's interactions (catalog.toml) is read as order lines: each row is a purchase,
    and appending the same rows again changes nothing. Exit code 1 where every event was refused.

    Example: [bold]molar events append orders.csv[/]

    Example: [bold]tail -n 1000 shop.jsonl | molar events append -[/]
    """
    report = run.shop().events.append(sys.stdin.buffer if file == "-" else Path(file))
    if not run.document(report.to_dict()):
        left_out = f", {report.left_out:,} not kept: their people are forgotten or object" if report.left_out else ""
        excluded = f", {report.excluded:,} excluded by status" if report.excluded else ""
        counts = f"{report.accepted:,} accepted, {report.repeated:,} repeated, {report.refused:,} refused"
        run.console.line(f"{counts}{excluded}{left_out}")
        named = report.refusals[:_SHOWN]
        where = "" if file == "-" else f"{Path(file).name}, "
        run.console.note(*(f"{where}row {one.row}, {one.field}: {one.problem}; {one.remedy}" for one in named))
        if report.refused > len(named):
            run.console.note(f"… and {report.refused - len(named):,} more; --json names the first 1,000")
    if report.refused and not report.accepted + report.repeated + report.left_out:
        raise typer.Exit(1)


@app.command()
@command()
def tail(run: Session, n: Annotated[int, typer.Option("-n", help="How many, at most 10,000.")] = 10) -> None:
    """Show the last events that arrived, the newest last.

    Example: [bold]molar events tail -n 20[/]
    """
    from molar_retrieval.frames import document

    lines = [document(row) for row in run.shop().events.tail(n).to_pylist()]
    if run.document({"events": lines}):
        return
    rows = [
        [
            str(line["timestamp"])[:19].replace("T", " "),
            line["event"],
            _who(line),
            *(str(line.get(name, "")) for name in ("item_id", "quantity", "value")),
        ]
        for line in lines
    ]
    run.console.table(("time (UTC)", "event", "who", "item", ">quantity", ">value"), rows)


def _who(line: "Mapping[str, Any]") -> str:
    """The user, else the session; nobody changes items."""
    user, session = line.get("user_id"), line.get("session_id")
    return str(user) if user is not None else "" if session is None else f"session {session}"


@app.command()
@command()
def compact(
    run: Session,
    keep_days: Annotated[
        int | None,
        option("Remove what is older than so many days; default: as molar.toml says, else nothing.", metavar="DAYS"),
    ] = None,
    force: Annotated[
        bool, option("Take damaged rows out of the log, and list them in events/refused.jsonl.", "--force")
    ] = False,
) -> None:
    """Seal the days before today (UTC) as Parquet files, one a day; it may be killed anywhere.

    Where a row is damaged or missing, nothing is done: `molar doctor --deep` names file, day and row.

    Example: [bold]molar events compact --keep-days 730[/]
    """
    done = run.shop().events.compact(keep_days, force=force)
    if run.document(done.to_dict()):
        return
    run.console.line(f"{done.sealed_lines:,} lines sealed in {done.sealed_files:,} files")
    if done.damaged_rows:
        run.console.line(f"{done.damaged_rows:,} damaged rows removed; events/refused.jsonl lists them")
    if done.removed_lines or keep_days is not None:
        run.console.line(f"{done.removed_lines:,} lines removed, which were older than is kept")


@app.command()
@command()
def export(
    run: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .parquet, .csv or .jsonl.", show_default=False)],
    user: Annotated[
        str | None, option("Only events of this user; - reads the id from stdin.", metavar="USER|-")
    ] = None,
    session: Annotated[str | None, option("Only events of this session; - as for --user.", metavar="SESSION|-")] = None,
    since: Annotated[int, option("Only what arrived after the event of this seq.", metavar="SEQ")] = 0,
) -> None:
    """Write events by time, one day of them in memory at a time; what is written can be appended again.

    Example: [bold]molar events export events.parquet[/]

    Example: [bold]molar events export anna.csv --user anna[/]
    """
    user, session = user and options.said(user), session and options.said(session)
    lines = run.shop().events.export(file, user_id=user, session_id=session, since=since)
    if not run.document({"lines": lines, "file": str(file)}):
        run.console.line(f"{lines:,} lines written to {file}")
