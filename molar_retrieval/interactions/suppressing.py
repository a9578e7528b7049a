"""Who is put on the list of :mod:`molar_retrieval.interactions.suppressed`, and what has been done for them since.

A change is on the disk when it returns. Processes take turns; who is killed leaves the former list or the new one.
"""

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from molar_retrieval.durable import OWNER, write_atomically
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.interactions.pseudonyms import Pseudonymiser, hashed, is_pseudonym
from molar_retrieval.interactions.suppressed import (
    FILE,
    FORMAT,
    NEVER,
    NOBODY,
    SESSION_NAME,
    USER_NAME,
    Kind,
    Step,
    SuppressedPeople,
    SuppressedPerson,
    opened,
)
from molar_retrieval.locks import wait_beside
from molar_retrieval.marks import mark_of


def suppress(
    workspace: Path,
    kind: Kind,
    people: Mapping[str, Collection[str]],
    *,
    session_ids: Collection[str] = (),
    reason: str = "",
    at: int | None = None,
) -> SuppressedPeople:
    """Put people on the list, and return it; it is on the disk then.

    Who is forgotten again is so up to the new moment, and everything is to be done again. Of who objects already only
    new sessions are added.

    Args:
        workspace: Its folder.
        kind: What they ask for.
        people: By the shop's own user id, sessions that are known to be theirs, as they are stored.
        session_ids: Anonymous people, by the sessions that they are known by.
        reason: In a sentence, without a name.
        at: When, in microseconds since 1970; None: now.

    Raises:
        RequestError: If an id is a pseudonym: the shop's files are read by the shop's own ids.
        DataError: If the list cannot be read or written.
    """
    keys = Pseudonymiser.of(workspace).keys
    for user_id in people if keys else ():
        if is_pseudonym(user_id):
            remedy = "name the id that the shop's own files have"
            raise RequestError(f"{user_id} is a pseudonym, by which nobody is found in these", remedy)
    moment = time.time_ns() // 1000 if at is None else at

    def changed(known: SuppressedPeople) -> list[SuppressedPerson]:
        def hashes(sessions: Iterable[str]) -> tuple[str, ...]:
            return tuple(known.hashed_session(name) for one in sessions for name in names(one, keys, SESSION_NAME))

        found = list(known.people)
        for user_id, sessions in people.items():
            users = tuple(known.hashed_user(name) for name in names(user_id, keys, USER_NAME))
            _enter(found, known.entry(kind, user_id), SuppressedPerson(kind, moment, users, hashes(sessions), reason))
        for session_id in session_ids:
            fresh = SuppressedPerson(kind, moment, (), hashes([session_id]), reason)
            _enter(found, known.session_entry(kind, session_id), fresh)
        return found

    return _change(workspace, changed)


def names(name: str, keys: Sequence[bytes], person: bytes = USER_NAME) -> list[str]:
    """All that somebody has been called: the given name, and what each key so far made of it."""
    if is_pseudonym(name):
        return [name]
    return list(dict.fromkeys(hashed(name, keys[:number], person) for number in range(len(keys) + 1)))


def withdraw(workspace: Path, user_ids: Collection[str]) -> SuppressedPeople:
    """End objections from now on; what was removed stays so, and the shop's files are read again.

    Raises:
        RequestError: If somebody has not objected.
        DataError: If the list cannot be read or written.
    """
    now = time.time_ns() // 1000

    def changed(known: SuppressedPeople) -> list[SuppressedPerson]:
        found = list(known.people)
        for user_id in user_ids:
            one = known.entry("objected", user_id)
            if one is None or one.withdrawn is not None:
                raise RequestError("no objection of this person is on the list", "correct the id")
            found[found.index(one)] = replace(one, withdrawn=now)
        return found

    return _change(workspace, changed)


def add_session(workspace: Path, user_id: str, session_id: str) -> None:
    """Say of somebody on the list that a session is theirs; what it did is to be removed then."""
    known = SuppressedPeople.of(workspace)
    keys = Pseudonymiser.of(workspace).keys
    user = known.hashed_user(user_id)
    sessions = [known.hashed_session(name) for name in names(session_id, keys, SESSION_NAME)]

    def with_session(one: SuppressedPerson) -> SuppressedPerson:
        if user not in one.users or sessions[0] in one.sessions or one.until == NEVER:
            return one
        return replace(one, sessions=(*one.sessions, *sessions), done={})

    if any(with_session(one) is not one for one in known.people):
        _change(workspace, lambda found: [with_session(one) for one in found.people])


def add_names(workspace: Path, user_ids: Iterable[str]) -> None:
    """Have those of some users who are on the list by the shop's id so by all that they are called since, too.

    The list does not tell their ids; after a new key somebody has to bring them.
    """
    known, keys = SuppressedPeople.of(workspace), Pseudonymiser.of(workspace).keys
    listed = {name for one in known.people for name in one.users}
    called = {own: one for one in user_ids if (own := known.hashed_user(one)) in listed} if listed else {}

    def with_names(one: SuppressedPerson) -> SuppressedPerson:
        found = [known.hashed_user(name) for own in one.users if own in called for name in names(called[own], keys)]
        return replace(one, users=tuple(dict.fromkeys((*one.users, *found))))

    if called:
        _change(workspace, lambda found: [with_names(one) for one in found.people])


def mark_done(workspace: Path, people: Collection[SuppressedPerson], *steps: Step) -> SuppressedPeople:
    """Say what has been done of the requests of some people; a request that was renewed meanwhile stays as it is."""
    now = time.time_ns() // 1000
    whose = {(one.kind, one.at, one.users, one.sessions) for one in people}

    def changed(known: SuppressedPeople) -> list[SuppressedPerson]:
        return [
            replace(one, done={**one.done, **dict.fromkeys(steps, now)})
            if (one.kind, one.at, one.users, one.sessions) in whose
            else one
            for one in known.people
        ]

    return _change(workspace, changed)


def place(workspace: Path, file: Path | None) -> None:
    """Have the list where the settings want it, from now on; a list that is in the workspace moves there.

    A list that is elsewhere already is not touched: where it is, only a record in the workspace says.

    Raises:
        DataError: If there are two lists, the new place has none of one that is elsewhere, or one cannot be written.
    """
    if file is None or _own(workspace) == (target := file.expanduser().absolute()):
        return
    with wait_beside(workspace / FILE), wait_beside(target):
        own = _own(workspace)
        if own == target:  # another process was first
            return
        if isinstance(own, Path):
            if not isinstance(opened(target, mark_of(target)), SuppressedPeople):
                raise DataError(f"{target} has no list of people; it was at {own}", f"move that file to {target}")
        elif not target.exists():
            _write(target, own if own.salt else SuppressedPeople(target, secrets.token_bytes(32)))
        elif own.people:
            raise DataError(f"both {own.file} and {target} are lists of people", "keep the one that has all of them")
        write_atomically(workspace / FILE, json.dumps({"file": str(target)}) + "\n", OWNER)


def _own(workspace: Path) -> SuppressedPeople | Path:
    """The list in the workspace, or the place that it names."""
    mark = mark_of(workspace / FILE)
    return NOBODY if mark is None else opened(workspace / FILE, mark)


def _enter(people: list[SuppressedPerson], former: SuppressedPerson | None, fresh: SuppressedPerson) -> None:
    if former is None:
        people.append(fresh)
    else:
        people[people.index(former)] = _renewed(former, fresh)


def _renewed(former: SuppressedPerson, fresh: SuppressedPerson) -> SuppressedPerson:
    sessions = tuple(dict.fromkeys((*former.sessions, *fresh.sessions)))
    users = tuple(dict.fromkeys((*former.users, *fresh.users)))
    if former.kind == "objected" and former.withdrawn is None:
        done = former.done if (users, sessions) == (former.users, former.sessions) else {}
        return replace(former, users=users, sessions=sessions, done=done)
    return replace(fresh, at=max(former.at, fresh.at), users=users, sessions=sessions)


def _change(workspace: Path, changed: Callable[[SuppressedPeople], list[SuppressedPerson]]) -> SuppressedPeople:
    while True:
        file = _file_of(workspace)
        with wait_beside(file):
            if _file_of(workspace) != file:  # it was moved meanwhile
                continue
            known = SuppressedPeople.of(workspace)
            if known is NOBODY:
                known = SuppressedPeople(file, secrets.token_bytes(32))
            found = replace(known, people=tuple(changed(known)))
            _write(file, found)
            return found


def _file_of(workspace: Path) -> Path:
    known = SuppressedPeople.of(workspace)
    return workspace / FILE if known is NOBODY else known.file


def _write(file: Path, people: SuppressedPeople) -> None:
    entries = [asdict(one) for one in people.people]
    told = {"format": FORMAT, "salt": people.salt.hex(), "people": entries}
    try:
        write_atomically(file, json.dumps(told, ensure_ascii=False, indent=0) + "\n", OWNER)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error}", "name a file that you may write to") from error
