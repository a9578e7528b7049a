"""What is removed at once of people who are forgotten or object, wherever a workspace has them by their names.

All of it goes by the list alone (:mod:`molar_retrieval.privacy.suppression`), so that whatever was interrupted, or
came back with a backup, is done by running it again. What models learnt of somebody is made anew later.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from molar_indexes.generations import KIND, USERS
from molar_indexes.users import UserStore, write_without
from molar_retrieval.errors import DataError
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonymisation import files_of_people
from molar_retrieval.privacy.suppression import EVER, NEVER, SuppressionList, not_reached
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import for_owner, sync_folder

_PARTIAL = f".{USERS}"
_ANSWERS = "serving/answers.sqlite"
_WHO = ("user_id", "anonymous_id")
_BATCH = 65_536
_WAIT = 10.0  # seconds for the batch of a server
_PATIENCE = 5.0  # seconds for its processes to remove answers from their memory


def remove_users(workspace: Workspace, suppressed: SuppressionList) -> list[str]:
    """Write the users of each generation that is kept without those on the list; the keys of these.

    Killed in between, a generation has the former file or the new one; who has it open follows at once.

    Raises:
        DataError: If another process publishes meanwhile, or a disk is full.
    """
    store, found = workspace[KIND], set[str]()
    if not suppressed or not store.versions():
        return []
    with workspace.lock(KIND):
        for folder in store.versions():
            gone = _listed(folder / USERS, suppressed)
            if gone:
                partial = folder / _PARTIAL
                partial.unlink(missing_ok=True)
                write_without(folder / USERS, partial, gone)
                for_owner(partial)
                artefacts.amend_inventory(folder, {USERS: partial}, {})
                partial.replace(folder / USERS)
                sync_folder(folder)
                found |= set(gone)
        live = store.current
        if found and live is not None:
            store.switch(live.name)  # who follows it opens it again
    return sorted(found)


def _listed(path: Path, suppressed: SuppressionList) -> list[str]:
    """Keys of people in a file whose record has something that is left out, or may have."""
    if not path.exists():
        return []
    with UserStore(path) as users:
        until = {key: moment for key in users.keys() if (moment := suppressed.keyed(key)) != NEVER}  # noqa: SIM118
        return [key for key, moment in until.items() if moment == EVER or _began(users, key) <= moment]


def _began(users: UserStore, key: str) -> int:
    """The first moment of somebody's history, in microseconds since 1970; before all others where it has no times."""
    record = users.keyed(key)
    return NEVER if record is None or not len(record.times) else int(record.times[0]) * 1_000_000


def remove_units(workspace: Workspace, suppressed: SuppressionList) -> int:
    """Remove the records that experiments have of people on the list; how many.

    Raises:
        DataError: If another process keeps writing them.
    """
    if not suppressed:
        return 0
    with ExperimentStore(workspace) as store:
        return store.remove(lambda unit, at: at <= suppressed.keyed(unit))


def remove_answers(workspace: Workspace, suppressed: SuppressionList) -> int:
    """Remove the answers to people on the list that a server keeps for a while; how many are removed from its file.

    Raises:
        DataError: If the server keeps writing them, or a process of it does not remove them from its memory.
    """
    if not suppressed:
        return 0
    late = not_reached(workspace.root, _PATIENCE)  # what they wrote before is in the file by then
    removed = _remove_from_file(workspace.root / _ANSWERS, suppressed)
    if late:
        words = f"answers in the memory of the server process {', '.join(map(str, late))} could not be reached"
        raise DataError(words, "run the same again; if it stays, restart the server")
    return removed


def _remove_from_file(path: Path, suppressed: SuppressionList) -> int:
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(path, _WAIT)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            rows = connection.execute("SELECT id, content FROM answers").fetchall()
            gone = [(id_,) for id_, content in rows if _is_of(content, suppressed)]
            with connection:
                connection.executemany("DELETE FROM answers WHERE id = ?", gone)
    except sqlite3.Error as error:
        raise DataError(f"{path} cannot be written: {error}", "run the same again, or remove the file") from error
    return len(gone)


def _is_of(content: bytes, suppressed: SuppressionList) -> bool:
    try:
        answered, _, question, *_ = msgspec.msgpack.decode(content)
        answered = msgspec.json.decode(answered) if isinstance(answered, bytes) else answered
    except (msgspec.DecodeError, ValueError, TypeError):
        return True  # of another version of molar, that nobody reads any more
    return any(
        suppressed.user(name) != NEVER or suppressed.session(name) != NEVER for name in _named([question, answered])
    )


def _named(value: Any) -> Iterator[str]:
    """Whoever is named in what was asked and answered."""
    if isinstance(value, dict):
        yield from (value[name] for name in _WHO if isinstance(value.get(name), str))
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _named(one)


def rows_in_files(folder: Path, user_ids: Sequence[str]) -> tuple[dict[str, int], set[str]]:
    """How many rows of people the files of a catalogue still have, by the name of the file; and of whom.

    Raises:
        DataError: If a file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted, rows, whose = pa.array(list(user_ids), pa.string()), dict[str, int](), set[str]()
    for name, source in files_of_people(folder):
        count = 0
        for batch in (rows.batch[name] for rows in source.batches([name], _BATCH, None, [name])):
            theirs = batch.filter(pc.is_in(batch, wanted))
            count += len(theirs)
            whose |= set(theirs.unique().to_pylist())
        if count:
            rows[source.path.name] = count
    return rows, whose
