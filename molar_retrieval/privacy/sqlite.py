"""SQLite files: every value of every table, and all bytes, free pages and what was deleted included."""

import sqlite3
from contextlib import closing
from pathlib import Path

from molar_retrieval.privacy.blocks import look_at_bytes
from molar_retrieval.privacy.found import FileFindings, UndecodableError
from molar_retrieval.privacy.needles import LENGTH, Match, Needles, of_people
from molar_retrieval.privacy.parquet import HISTORY

_ROWS = 2_000


def look_at_sqlite(path: Path, needles: Needles, found: FileFindings) -> None:
    """Look through a database as it is on the disk; its write-ahead log is a file of its own."""
    certain = len(found.findings)
    try:
        # immutable: nothing is written beside it, no log is taken in, nobody waits.
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (table,) in names:
                _look_at_table(database, table, needles, found)
    except sqlite3.Error as error:
        raise UndecodableError(f"SQLite cannot read it: {error}") from error
    if len(found.findings) == certain:
        look_at_bytes(path, needles, found)


def _look_at_table(database: sqlite3.Connection, table: str, needles: Needles, found: FileFindings) -> None:
    cursor = database.execute(f'SELECT * FROM "{table.replace(chr(34), chr(34) * 2)}"')
    columns = [(f"{table}.{one[0]}", of_people(one[0])) for one in cursor.description]
    last: list[list[str]] = [[] for _ in columns]
    row = 0
    while rows := cursor.fetchmany(_ROWS):
        for values in rows:
            for place, value in enumerate(values):
                if value is not None:
                    _look_at_value(value, *columns[place], row, needles, found)
            row += 1
        for place, (name, _) in enumerate(columns):
            texts = [*last[place], *(one[place] if isinstance(one[place], str) else "" for one in rows)]
            for at in needles.in_order(texts):
                found.add(Match(HISTORY), f"{name}, row {row - len(texts) + at:,}")
            last[place] = texts[-LENGTH + 1 :]


def _look_at_value(value: object, name: str, people: bool, row: int, needles: Needles, found: FileFindings) -> None:
    where = f"{name}, row {row:,}"
    if isinstance(value, str):
        found.add_all(needles.text(value, people=people), where)
    elif isinstance(value, bytes):
        found.add_all((Match(what) for _, what, _ in needles.windows.find(value)), where)
    elif isinstance(value, int) and people:
        found.add_all(needles.number(value), where)
