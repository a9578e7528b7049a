"""Files written anew with other names of people in them: the same rows, and no byte of a former name.

Nothing is changed in place, where free pages, dictionaries and statistics would keep what was there.
"""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.errors import DataError
from molar_retrieval.privacy.pseudonyms import (
    Pseudonymiser,
    StoredName,
    hashed,
    of_key,
    rehashed,
    session_key,
    user_key,
)
from molar_retrieval.workspace.files import for_owner, sync_file

Rename = Callable[[str], str]
_REMEMBERED = 1 << 18  # names whose new ones are kept at hand
_CACHE = 262_144  # KiB of pages: an index of a million names


class Renaming:
    """What people are called with some keys more, by what they are called in the workspace now.

    Args:
        now: What they are called now.
        keys: The keys more, oldest first.

    Attributes:
        user: Of the name of a user.
        session: Of the name of a session.
        event_id: Of the id of an event, which may be made of a user's.
    """

    def __init__(self, now: Pseudonymiser, keys: tuple[bytes, ...]) -> None:
        first = Pseudonymiser(keys)  # as whoever asks for the shop's id finds it
        self.user: Rename = lru_cache(_REMEMBERED)((lambda name: hashed(name, keys)) if now.keys else first.user)
        self.event_id: Rename = lambda event_id: rehashed(event_id, keys)
        self.session: Rename = self.user if now.keys else lru_cache(_REMEMBERED)(first.session)

    def person(self, key: str) -> str:
        """Of a key of :mod:`molar_retrieval.privacy.pseudonyms`."""
        kind, name = of_key(key)
        if kind == "session_id":
            return session_key(StoredName(self.session(name)))
        return user_key(StoredName(self.user(name)))


def rename_parquet(source: Path, target: Path, columns: Mapping[str, Rename]) -> None:
    """Write a Parquet file anew with other names in those of some columns that it has as text."""
    with pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        chosen = {name: rename for name, rename in columns.items() if name in schema.names}
        chosen = {name: rename for name, rename in chosen.items() if _is_text(schema.field(name).type)}
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, use_threads=False)
                for name, rename in chosen.items():
                    place = table.schema.get_field_index(name)
                    table = table.set_column(place, schema.field(name), _renamed(table[name], rename))
                writer.write_table(table)
    for_owner(target)
    sync_file(target)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _renamed(column: pa.ChunkedArray, rename: Rename) -> pa.Array:
    """Each name is hashed once, however often it occurs."""
    array = column.combine_chunks()
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    names = pa.array([None if name is None else rename(name) for name in encoded.dictionary.to_pylist()], pa.string())
    return names.take(encoded.indices).cast(column.type)


def rename_database(source: Path, target: Path, columns: Mapping[str, Mapping[str, Rename]]) -> None:
    """Write an SQLite database anew with other names in some columns of its tables; indexes are made last.

    Nobody writes the ``source`` meanwhile, and it has no journal.
    """
    with closing(_connected(target, "rwc")) as new:
        new.execute("ATTACH DATABASE ? AS former", [f"{source.absolute().as_uri()}?mode=ro"])
        (size,) = new.execute("PRAGMA former.page_size").fetchone()
        new.execute(f"PRAGMA page_size = {size}")
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE}"):
            new.execute(f"PRAGMA {pragma}")
        schema = "SELECT name, sql FROM former.sqlite_master WHERE type = ? AND sql IS NOT NULL ORDER BY rowid"
        tables, indexes = (new.execute(schema, [kind]).fetchall() for kind in ("table", "index"))
        new.execute("BEGIN")
        for name, sql in tables:
            if not name.startswith("sqlite_"):
                new.execute(sql)
                _copy(new, name, columns.get(name, {}))
        if "sqlite_sequence" in dict(tables):
            new.execute("DELETE FROM main.sqlite_sequence")
            new.execute("INSERT INTO main.sqlite_sequence SELECT * FROM former.sqlite_sequence")
        for _, sql in indexes:
            new.execute(sql)
        (version,) = new.execute("PRAGMA former.user_version").fetchone()
        new.execute(f"PRAGMA main.user_version = {version}")
        new.execute("COMMIT")
    for_owner(target)
    sync_file(target)


def _copy(new: sqlite3.Connection, table: str, renames: Mapping[str, Rename]) -> None:
    names = [row[1] for row in new.execute(f"PRAGMA former.table_info({table})")]
    chosen = []
    for name in names:
        chosen.append(f'"{name}"')
        if (rename := renames.get(name)) is not None:
            new.create_function(f"renamed_{name}", 1, _or_none(rename), deterministic=True)
            chosen[-1] = f'renamed_{name}("{name}")'
    into = ", ".join(f'"{name}"' for name in names)
    new.execute(f"INSERT INTO main.{table} ({into}) SELECT {', '.join(chosen)} FROM former.{table}")


def _or_none(rename: Rename) -> Callable[[str | None], str | None]:
    return lambda name: None if name is None else rename(name)


def put_into(source: Path, target: Path) -> None:
    """Have a database hold what another one does, as one transaction: who has it open sees the one or the other."""
    with closing(_connected(source, "ro")) as new, closing(_connected(target, "rw")) as old:
        new.backup(old)


def without_journal(path: Path, wait: float) -> None:
    """Bring the journal (WAL) of a database into it; a DataError where somebody has it open for so many seconds."""
    with closing(_connected(path, "rw", wait)) as connection:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        except sqlite3.OperationalError:
            mode = "wal"
    if mode != "delete":
        raise DataError(f"another process has {path} open", "stop what reads or writes it, then run again")


def _connected(path: Path, mode: str, wait: float = 60.0) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", wait, isolation_level=None, uri=True)
