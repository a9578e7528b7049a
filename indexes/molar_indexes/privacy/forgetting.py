"""People are forgotten, or their objection is heeded: on the list first, then out of all that names them."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar_indexes.privacy.removing import remove_answers, remove_units, remove_users, rows_in_files
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.event_removal import remove_lines
from molar_retrieval.errors import MolarError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName, of_key, session_key, user_key
from molar_retrieval.privacy.suppression import (
    NEVER,
    Kind,
    Step,
    SuppressedPerson,
    SuppressionList,
    mark_done,
    suppress,
    withdraw,
)
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_indexes.privacy.certificate import Certificate
    from molar_indexes.server.config import ServerConfig


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
    from molar_indexes.generations import KIND, USERS
    from molar_indexes.users import UserStore

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
    from molar_indexes.server.connect import connected

    with connected(server) as connection:
        return remove_points(connection, keys)
