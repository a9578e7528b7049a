"""People are forgotten, or their objection is heeded: on the list first, then out of all that names them.

What is removed at once of people who are forgotten or object, wherever a workspace has them by their names.

All of it goes by the list alone (:mod:`molar_retrieval.privacy.suppression`), so that whatever was interrupted, or
came back with a backup, is done by running it again. What models learnt of somebody is made anew later.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from molar_indexes.generations import KIND, USERS
from molar_indexes.users import UserStore, write_without
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.event_removal import remove_lines
from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonymisation import files_of_people
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName, of_key, session_key, user_key
from molar_retrieval.privacy.suppression import (
    EVER,
    NEVER,
    Kind,
    Step,
    SuppressedPerson,
    SuppressionList,
    mark_done,
    not_reached,
    suppress,
    withdraw,
)
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import for_owner, sync_folder

if TYPE_CHECKING:
    from molar_indexes.privacy.certificate import Certificate
    from molar_indexes.server.config import ServerConfig

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


@dataclass(frozen=True)
class Forgotten:
    """What was done for people who are to be forgotten, or object; it names none of them but the unknown.

    Attributes:
        kind: What they asked for.
        at: When that was put on the list, in microseconds since 1970; nothing is answered by their past from then on.
        people: How many.
        removed: What was removed, by kind: lines of the event log, rows of generations and the like.
        failed: Steps that could not be carried out, each with the reason; running the same again carries them out.
        pending: What is to be done later: artefacts made anew without them, what knew them removed.
        source_rows: Rows that the shop's own files still have, by file; whoever writes these must remove them.
        unknown: Ids, of users or sessions, that nobody has here. They are on the list as well.
        identified: Sessions that are known to be a user's. What they did without a login is gone; events of the user
            have their id until the user is forgotten.
        entries: Their entries of the list.
        certificate: What was made anew and removed, and what a scan found before and after; None: it waits for
            ``molar align``.
    """

    kind: Kind
    at: int
    people: int
    removed: Mapping[str, int]
    failed: Mapping[str, str] = field(default_factory=dict)
    pending: Sequence[Step] = ()
    source_rows: Mapping[str, int] = field(default_factory=dict)
    unknown: Sequence[str] = ()
    identified: Sequence[str] = ()
    entries: Sequence[SuppressedPerson] = ()
    certificate: "Certificate | None" = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, without the entries; of the certificate without its list of files."""
        told = asdict(self)
        del told["entries"]
        if told["certificate"] is not None:
            del told["certificate"]["files"]
        return told


def heed(
    workspace: Workspace,
    folder: Path | None,
    kind: Kind,
    user_ids: Collection[str],
    *,
    session_ids: Collection[str] = (),
    reason: str = "",
    server: "ServerConfig | None" = None,
) -> Forgotten:
    """Put people on the list, and remove all that a workspace has under their names; may be killed anywhere, and again.

    Args:
        workspace: The workspace.
        folder: The catalogue's, whose rows of theirs are counted; None: it is not there.
        kind: What they ask for.
        user_ids: Who, by the shop's own ids.
        session_ids: Anonymous people, by the sessions that they are known by.
        reason: See :func:`molar_retrieval.privacy.suppression.suppress`.
        server: That has users as well, or None.

    Raises:
        RequestError: If an id is a pseudonym.
        DataError: If the list cannot be written, or the catalogue's files cannot be read.
    """
    ids, anonymous = list(dict.fromkeys(user_ids)), list(dict.fromkeys(session_ids))
    names = Pseudonymiser.of(workspace.root)
    with opened(workspace) as events:
        identified = {} if events is None else events.identified()
    sessions: dict[str, list[StoredName]] = {user_id: [] for user_id in ids}
    stored = {names.user(user_id): user_id for user_id in ids}
    for session, user in identified.items():
        if user in stored:
            sessions[stored[user]].append(session)
    now = time.time_ns() // 1000
    suppressed = suppress(workspace.root, kind, sessions, session_ids=anonymous, reason=reason, at=now)
    keyed = {user_key(name): user_id for name, user_id in stored.items()}
    own = {session_key(names.session(one)): one for one in anonymous}
    here = _known_here(workspace, [*keyed, *own])
    entries = _entries(suppressed, kind, ids, anonymous)
    keys = [*keyed, *own, *(session_key(session) for every in sessions.values() for session in every)]
    removed, failed = remove_listed(workspace, suppressed, keys, server, entries)
    rows, in_files = ({}, set[str]()) if folder is None else rows_in_files(folder, ids)
    entries = _entries(SuppressionList.of(workspace.root), kind, ids, anonymous)
    pending = list(dict.fromkeys(step for one in entries for step in one.pending))
    unknown = [one for key, one in keyed.items() if key not in here and one not in in_files]
    unknown += [one for key, one in own.items() if key not in here]
    return Forgotten(
        kind,
        max(one.at for one in entries),
        len(ids) + len(anonymous),
        removed,
        failed,
        pending,
        rows,
        unknown,
        [one for one in anonymous if names.session(one) in identified],
        entries,
    )


def _entries(
    suppressed: SuppressionList, kind: Kind, user_ids: Sequence[str], session_ids: Sequence[str]
) -> list[SuppressedPerson]:
    found = [suppressed.entry(kind, one) for one in user_ids]
    found += [suppressed.entry(kind, None, one) for one in session_ids]
    return [one for one in found if one is not None]


def remove_listed(
    workspace: Workspace,
    suppressed: SuppressionList,
    keys: Sequence[str],
    server: "ServerConfig | None",
    entries: Sequence[SuppressedPerson],
) -> tuple[dict[str, int], dict[str, str]]:
    """Remove everybody on the list from all that names people; counts, and what failed, by step.

    Points on a server go by ``keys``, as their numbers are made of these, and are ticked off for ``entries`` alone.
    """
    steps: dict[Step, Callable[[], int]] = {
        "users": lambda: len(remove_users(workspace, suppressed)),
        "events": lambda: remove_lines(workspace, suppressed),
        "experiments": lambda: remove_units(workspace, suppressed),
        "answers": lambda: remove_answers(workspace, suppressed),
    }
    removed, failed = dict[str, int](), dict[str, str]()
    done: list[Step] = []
    for step, how in steps.items():
        try:
            removed[step] = how()
            done.append(step)
        except MolarError as error:
            failed[step] = f"{error.message}; {error.hint}"
    mark_done(workspace.root, [one for one in suppressed.people if one.until != NEVER], *done)
    try:
        removed["server"] = 0 if server is None else _on_server(server, keys)
        mark_done(workspace.root, entries, "server")
    except MolarError as error:
        failed["server"] = f"{error.message}; {error.hint}"
    return removed, failed


def end_objection(workspace: Workspace, user_ids: Collection[str]) -> int:
    """End objections; how many.

    Raises:
        RequestError: If somebody has not objected.
        DataError: If the list cannot be written.
    """
    withdraw(workspace.root, user_ids)
    return len(user_ids)


def _known_here(workspace: Workspace, keys: Sequence[str]) -> set[str]:
    """Those of some people, by their keys, whom generations or the event log have."""
    found = set[str]()
    for folder in workspace[KIND].versions():
        if (folder / USERS).exists():
            with UserStore(folder / USERS) as users:
                found |= {key for key in keys if users.keyed(key) is not None}
    with opened(workspace) as events:
        if events is not None:
            left = [key for key in keys if key not in found]
            found |= {key for key in left if any(len(table) for table in events.tables(("seq",), of=of_key(key)))}
    return found


def _on_server(server: "ServerConfig", keys: Sequence[str]) -> int:
    from molar_indexes.privacy.server import remove_points
    from molar_indexes.server.client import connected

    with connected(server) as connection:
        return remove_points(connection, keys)
