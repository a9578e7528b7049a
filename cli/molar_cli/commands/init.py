"""`molar init`."""

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from molar import Initial

_KINDS = {"items": "the items", "interactions": "the interactions", "users": "the users"}
_ROWS, _MORE = 10, 3  # rows that are shown, and columns beside id and title
_TITLE, _CELL = 30, 16  # terminal cells of a title, and of another value


@command("workspace", "settings")
def init(
    run: Session,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            help="Items, purchases and perhaps users, in any order; or their folder.",
            show_default=False,
        ),
    ],
    items: Annotated[Path | None, option("The file of the items.", metavar="FILE")] = None,
    interactions: Annotated[Path | None, option("The file of the purchases, views ….", metavar="FILE")] = None,
    users: Annotated[Path | None, option("The file of the users.", metavar="FILE")] = None,
    column: Annotated[
        list[str] | None,
        option("What a column is: item_id=SKU, interactions.user_id=Kunde; title=: none.", metavar="NAME=COLUMN"),
    ] = None,
    decimal: Annotated[Literal[".", ","] | None, option("Decimal sign of the items' numbers.")] = None,
    time_format: Annotated[str | None, option("Format of the times: %d/%m/%Y %H:%M.", metavar="FORMAT")] = None,
    time_zone: Annotated[str | None, option("Zone of times that name none: Europe/Berlin.", metavar="ZONE")] = None,
    language: Annotated[str | None, option("Language of the texts: de, en, ja.", "--lang", metavar="CODE")] = None,
    level: Annotated[
        Literal["product", "variant"] | None, option("What is recommended where products have variants.")
    ] = None,
    overwrite: Annotated[bool, option("Replace a catalog.toml that says something else.", "--overwrite")] = False,
    dry_run: Annotated[bool, option("Show what would be written, write nothing.", "--dry-run")] = False,
) -> None:
    """Find out what your own tables mean, and write it into catalog.toml; the tables stay as they are.

    CSV, JSONL and Parquet, column names of any language. Where tables are ambiguous, an error names the option to set.

    Example: [bold]molar init orders.csv products.csv[/]

    Example: [bold]molar init export/ --column item_id=SKU --time-zone Europe/Berlin[/]
    """
    from molar import init as initialise

    found = initialise(
        *files, items=items, interactions=interactions, users=users, columns=_columns(column or []), decimal=decimal,
        time_format=time_format, time_zone=time_zone, language=language, level=level, overwrite=overwrite,
        dry_run=dry_run,
    )  # fmt: skip
    if run.document(found.to_dict()):
        return
    _print(run, found, (decimal, time_format, time_zone, language, level))


def _columns(said: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in said]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise SettingsError(f"--column {wrong[0]} names no column", "write it as --column item_id=SKU")
    return {name.strip(): column.strip() for name, _, column in pairs}


def _print(run: Session, found: "Initial", said: Collection[str | None]) -> None:
    proposal, first = found.proposal, found.preview
    console = run.console
    for table in proposal.tables:
        rows = f"{table.rows:,} rows" if table.whole else f"more than {table.rows:,} rows"
        console.line(f"{table.path.name}: {_KINDS[table.stem]}, {rows} ({table.form})")
    if (counts := proposal.variants) is not None:
        untitled = f"; {counts.untitled:,} products have no title" if counts.untitled else ""
        console.line(f"products with variants: {counts.products:,} products, {counts.variants:,} variants{untitled}")
    console.line("")
    means = [[f"{t.stem}.{role}", one.name, one.why] for t in proposal.tables for role, one in t.columns.items()]
    means += [
        [f"{section}.{key}", _told(value), "as you said" if value in said else "by the contents"]
        for section, key, value in _settings(proposal.sections)
    ]
    console.table(["is read as", "column or setting", "because"], means)
    shown = {"photo": "image", "title": "title", "description": "description"}
    seen = [name for name, column in shown.items() if any(item[column] for item in first.items)]
    console.line("", f"in the vectors: {', '.join([*seen, *first.attributes])}")
    if first.kept:
        console.line("for filters and display: " + ", ".join(f"{name} ({kind})" for name, kind in first.kept.items()))
    unused = [name for table in proposal.tables if table.stem == "interactions" for name in table.unused]
    if unused:
        console.line(f"not used: {', '.join(unused)}")
    console.line("", "The first items, as they are read")
    _items(run, first.items, [*first.kept, *first.attributes])
    if first.interactions:
        console.line("", "The first interactions, as they are read")
        _interactions(run, first.interactions)
    doubts = [*proposal.findings, *found.doubts()]
    if doubts:
        console.line("", "Not understood, or not as it may be meant", *(f"  {one}" for one in doubts))
    if found.encoder_note:
        console.line("", found.encoder_note)
    folder = shlex.quote(os.path.relpath(proposal.folder))
    if found.written is None:
        console.line("", found.text.rstrip())
        return
    console.line("", f"written: {found.written}", f"next: molar check {folder}")


def _settings(sections: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Any]]:
    """What is said beside the columns: encodings, decimal signs, zones."""
    keys = ("level", "decimal", "lists", "images", "exclude_status", "time_format", "time_zone", "language")
    return [(section, key, values[key]) for section, values in sections.items() for key in keys if key in values]


def _told(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _items(run: Session, rows: Sequence[Mapping[str, Any]], others: Sequence[str]) -> None:
    more = list(others)[:_MORE]
    photo = ["photo"] if any(row["image"] for row in rows) else []
    cells = [
        [row["item_id"], _short(row["title"], _TITLE), *(["yes" if row["image"] else ""] * len(photo)),
         *(_short(row.get(name), _CELL) for name in more)]
        for row in rows[:_ROWS]
    ]  # fmt: skip
    run.console.table(["item", "title", *photo, *more], cells)


def _interactions(run: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    names = [name for name in ("weight", "event") if name in rows[0]]
    timed = "written" in rows[0]
    columns = ["user", "item", "title", *(["time as written", "in UTC"] if timed else []), *names]
    cells = []
    for row in rows[:_ROWS]:
        when = (
            [_short(row["written"], 2 * _CELL), f"{datetime.fromisoformat(row['time']):%Y-%m-%d %H:%M}"]
            if timed
            else []
        )
        others = [_short(row[name], _CELL) for name in names]
        cells.append([row["user_id"], row["item_id"], _short(row["title"], _CELL), *when, *others])
    run.console.table(columns, cells)


def _short(value: Any, most: int) -> str:
    """A value that fits into some cells of a terminal."""
    from rich.cells import cell_len, set_cell_size

    if value is None:
        return ""
    text = f"{value:,.10g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else str(value)
    return text if cell_len(text) <= most else set_cell_size(text, most - 1).rstrip() + "…"
