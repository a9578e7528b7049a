"""The suppression list: users who are forgotten, and users who object (GDPR, articles 17 and 21).

The files of a shop are read again and again, so a removed user would come back without such a list. An entry holds no
id, only keyed hashes (BLAKE2b, RFC 7693, 128 bits) of what a user is called, with a salt that lies in the list.

* **forgotten**: everything up to the moment of the request is left out, and what has no time; later events count again.
* **objected**: everything is left out until the objection is withdrawn; the user gets the popular items.

The list is ``suppressed.json`` in the workspace, replaced as a whole, or a file elsewhere, so that a backup of the
workspace can be restored without it. Then ``suppressed.json`` says that it is elsewhere; where, the environment or the
user configuration says. A change is on the disk when it returns; writers take turns.
"""

import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress as ignore
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, hashed, is_pseudonym, of_key
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.config_files import how_to_name, trusted_file, variable_of
from molar_retrieval.workspace.files import (
    OWNER,
    file_in,
    file_stamp,
    lock_now,
    locked_alone,
    wait_beside,
    write_atomically,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

FILE = "suppressed.json"
_SETTING = "privacy", "suppressed_file"

Kind = Literal["forgotten", "objected"]
Step = Literal["events", "users", "experiments", "answers", "server", "rebuilt", "purged"]
AT_ONCE: tuple[Step, ...] = ("events", "users", "experiments", "answers", "server")
"""What is removed while the request is carried out: lines of the event log, rows of the generations that are kept,
records of experiments, answers that a server keeps, points in collections of users."""
LATER: tuple[Step, ...] = ("rebuilt", "purged")
"""What is made anew without the person, and what of the past is removed then."""

_USER, _SESSION = b"molar user", b"molar session"
"""What is hashed: the same id of a user and of a session are two."""

NEVER, EVER = -(2**63), 2**63 - 1
"""Moments before and after all others, in microseconds."""

FORMAT = 1
LOST = (
    f"bring it back from a backup, or name it with {variable_of(*_SETTING)}; without it, who was forgotten would come"
    " back"
)


@dataclass(frozen=True)
class SuppressedPerson:
    """An entry of the list.

    Attributes:
        kind: What the person asked for.
        at: When, in microseconds since 1970.
        users: Salted hashes of what the user is and was called: the shop's id, and pseudonyms of it; none where the
            person is known by a session alone.
        sessions: The same of sessions that are known to be theirs.
        reason: Why, in the words of who asked.
        withdrawn: When an objection ended; None: it holds.
        done: What has been done, by step, and when.
    """

    kind: Kind
    at: int
    users: tuple[str, ...]
    sessions: tuple[str, ...] = ()
    reason: str = ""
    withdrawn: int | None = None
    done: Mapping[str, int] = field(default_factory=dict)

    @property
    def until(self) -> int:
        """The last moment of what is left out, in microseconds since 1970."""
        if self.withdrawn is not None:
            return NEVER
        return EVER if self.kind == "objected" else self.at

    @property
    def pending(self) -> list[Step]:
        """What has not been done yet."""
        return [step for step in (*AT_ONCE, *LATER) if step not in self.done and self.withdrawn is None]


@dataclass(frozen=True)
class SuppressionList:
    """The list of a workspace; truthful as long as anybody is on it.

    Attributes:
        file: Where it lies.
        salt: Key of its hashes.
        people: All entries, oldest first, withdrawn ones too.
    """

    file: Path
    salt: bytes
    people: tuple[SuppressedPerson, ...] = ()

    @classmethod
    def of(cls, workspace: Path) -> "SuppressionList":
        """That of a workspace, given its folder; a DataError if it is damaged, or not where it is said to be."""
        named = trusted_file(*_SETTING)
        file = named or file_in(workspace, FILE)
        mark = file_stamp(file)
        if mark is None and named is None:
            return NOBODY
        found = opened(file, mark)
        if isinstance(found, Path):
            remedy = LOST if named else how_to_name(*_SETTING)
            raise DataError(f"{file} says that the list of people who are left out is elsewhere: at {found}", remedy)
        return found

    def __bool__(self) -> bool:
        return bool(self._until)

    @cached_property
    def _until(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for person in self.people:
            if person.until != NEVER:
                for name in (*person.users, *person.sessions):
                    found[name] = max(found.get(name, NEVER), person.until)
        return found

    @cached_property
    def digest(self) -> str | None:
        """Changes when somebody else is left out, or up to another moment; None: nobody is."""
        return fingerprint.of_json(sorted(self._until.items())) if self else None

    def user(self, user_id: str) -> int:
        """Up to when everything of a user is left out, in microseconds since 1970; :data:`NEVER` for most."""
        return self._until.get(self.hash(user_id), NEVER) if self else NEVER

    def session(self, session_id: str) -> int:
        """The same of somebody who is known by a session alone."""
        return self._until.get(self.hash(session_id, _SESSION), NEVER) if self else NEVER

    def person(self, user_id: str | None, session_id: str | None) -> int:
        """The same of who did something, whom a session names only where no user id does."""
        if user_id is not None:
            return self.user(user_id)
        return NEVER if session_id is None else self.session(session_id)

    def keyed(self, key: str) -> int:
        """The same of who has a key of :mod:`molar_retrieval.privacy.pseudonyms`."""
        kind, name = of_key(key)
        return self.user(name) if kind == "user_id" else self.session(name)

    def users(self, user_ids: "pa.Array") -> "npt.NDArray[np.int64]":
        """The same of many users, in their order; of a missing id, never. Shape (n,)."""
        return self._many(user_ids, self.user)

    def sessions(self, session_ids: "pa.Array") -> "npt.NDArray[np.int64]":
        """The same of many sessions."""
        return self._many(session_ids, self.session)

    def hash(self, name: str, person: bytes = _USER) -> str:
        """What stands in the list for a name of a user or a session."""
        return blake2b(name.encode(), digest_size=16, key=self.salt, person=person).hexdigest()

    def entry(self, kind: Kind, user_id: str | None, session_id: str = "") -> SuppressedPerson | None:
        """What the list has of a user, or of a session that was named itself, not as a user's."""
        for one in self.people:
            theirs = not one.users and self.hash(session_id, _SESSION) in one.sessions
            if one.kind == kind and (theirs if user_id is None else self.hash(user_id) in one.users):
                return one
        return None

    def _many(self, ids: "pa.Array", until: Callable[[str], int]) -> "npt.NDArray[np.int64]":
        import numpy as np

        if not self:
            return np.full(len(ids), NEVER)
        encoded = ids.dictionary_encode()
        own = np.array([*map(until, encoded.dictionary.to_pylist()), NEVER], np.int64)
        found: npt.NDArray[np.int64] = own[np.asarray(encoded.indices.fill_null(len(own) - 1))]
        return found


NOBODY = SuppressionList(Path(FILE), b"")


@lru_cache(maxsize=64)
def opened(file: Path, mark: object) -> SuppressionList | Path:
    """The list in a file, or the file that it leads to."""
    if mark is None:
        raise DataError(f"the list of people who are left out is not at {file}", LOST)
    try:
        told = json.loads(file.read_text("utf-8"))
        if "file" in told:
            return Path(told["file"])
        if told["format"] != FORMAT:
            raise ValueError(f"it has format {told['format']}, this version of molar reads {FORMAT}")
        people = tuple(SuppressedPerson(**one) for one in told["people"])
        lists = (replace(one, users=tuple(one.users), sessions=tuple(one.sessions)) for one in people)
        return SuppressionList(file, bytes.fromhex(told["salt"]), tuple(lists))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the list of people who are left out cannot be read from {file}: {error}", LOST) from error


def suppress(
    workspace: Path,
    kind: Kind,
    people: Mapping[str, Collection[str]],
    *,
    session_ids: Collection[str] = (),
    reason: str = "",
    at: int | None = None,
) -> SuppressionList:
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
    """
    keys = Pseudonymiser.of(workspace).keys
    for user_id in people if keys else ():
        if is_pseudonym(user_id):
            remedy = "name the id that the shop's own files have"
            raise RequestError(f"{user_id} is a pseudonym, by which nobody is found in these", remedy)
    moment = time.time_ns() // 1000 if at is None else at

    def changed(known: SuppressionList) -> list[SuppressedPerson]:
        found = list(known.people)
        asked = [(known.entry(kind, user_id), [user_id], sessions) for user_id, sessions in people.items()]
        asked += [(known.entry(kind, None, one), [], [one]) for one in session_ids]
        for former, users, sessions in asked:
            hashes = _hashes(known, users, keys), _hashes(known, sessions, keys, _SESSION)
            fresh = SuppressedPerson(kind, moment, *hashes, reason)
            if former is None:
                found.append(fresh)
            else:
                found[found.index(former)] = _renewed(former, fresh)
        return found

    return _change(workspace, changed)


def _hashes(
    known: SuppressionList, names: Iterable[str], keys: Sequence[bytes], person: bytes = _USER
) -> tuple[str, ...]:
    """Hashes of all that somebody has been called: the given names, and what each key so far made of them."""
    called = [
        hashed(name, keys[:number], person)
        for name in names
        for number in range(1 if is_pseudonym(name) else len(keys) + 1)
    ]
    return tuple(dict.fromkeys(known.hash(name, person) for name in called))


def withdraw(workspace: Path, user_ids: Collection[str]) -> SuppressionList:
    """End objections from now on; what was removed stays so, and the shop's files are read again.

    A RequestError if somebody has not objected.
    """
    now = time.time_ns() // 1000

    def changed(known: SuppressionList) -> list[SuppressedPerson]:
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
    known = SuppressionList.of(workspace)
    keys = Pseudonymiser.of(workspace).keys
    user, sessions = known.hash(user_id), _hashes(known, [session_id], keys, _SESSION)

    def with_session(one: SuppressedPerson) -> SuppressedPerson:
        if user not in one.users or sessions[0] in one.sessions or one.until == NEVER:
            return one
        return replace(one, sessions=(*one.sessions, *sessions), done={})

    if any(with_session(one) is not one for one in known.people):
        _change(workspace, lambda found: list(map(with_session, found.people)))


def add_names(workspace: Path, user_ids: Iterable[str]) -> None:
    """Have those of some users who are on the list by the shop's id so by all that they are called since, too.

    The list does not tell their ids; after a new key somebody has to bring them.
    """
    known, keys = SuppressionList.of(workspace), Pseudonymiser.of(workspace).keys
    listed = {name for one in known.people for name in one.users}
    called = {own: one for one in user_ids if (own := known.hash(one)) in listed} if listed else {}

    def with_names(one: SuppressedPerson) -> SuppressedPerson:
        found = _hashes(known, [called[own] for own in one.users if own in called], keys)
        return replace(one, users=tuple(dict.fromkeys((*one.users, *found))))

    if called:
        _change(workspace, lambda found: list(map(with_names, found.people)))


def mark_done(workspace: Path, people: Collection[SuppressedPerson], *steps: Step) -> SuppressionList:
    """Say what has been done of the requests of some people; a request that was renewed meanwhile stays as it is."""
    now = time.time_ns() // 1000
    steps_done = {str(step): now for step in steps}

    def marked(one: SuppressedPerson) -> SuppressedPerson:
        theirs = any(replace(asked, done=one.done, withdrawn=one.withdrawn) == one for asked in people)
        return replace(one, done={**one.done, **steps_done}) if theirs else one

    return _change(workspace, lambda known: list(map(marked, known.people)))


def place(workspace: Path, file: Path | None) -> None:
    """Have the list where the settings want it, from now on; a list that is in the workspace moves there.

    A list that is elsewhere already is not touched: where it is, only a record in the workspace says. A DataError if
    there are two lists, the new place has none of one that is elsewhere, or one cannot be written.
    """
    if file is None or _own(workspace) == (target := file.expanduser().absolute()):
        return
    with wait_beside(workspace / FILE), wait_beside(target):
        own = _own(workspace)
        if own == target:  # another process was first
            return
        if isinstance(own, Path):
            if not isinstance(opened(target, file_stamp(target)), SuppressionList):
                raise DataError(f"{target} has no list of people; it was at {own}", f"move that file to {target}")
        elif not target.exists():
            _write(target, own if own.salt else SuppressionList(target, secrets.token_bytes(32)))
        elif own.people:
            raise DataError(f"both {own.file} and {target} are lists of people", "keep the one that has all of them")
        write_atomically(workspace / FILE, json.dumps({"file": str(target)}) + "\n", OWNER)


def _own(workspace: Path) -> SuppressionList | Path:
    """The list in the workspace, or the place that it names."""
    mark = file_stamp(workspace / FILE)
    return NOBODY if mark is None else opened(workspace / FILE, mark)


def _renewed(former: SuppressedPerson, fresh: SuppressedPerson) -> SuppressedPerson:
    sessions = tuple(dict.fromkeys((*former.sessions, *fresh.sessions)))
    users = tuple(dict.fromkeys((*former.users, *fresh.users)))
    if former.kind == "objected" and former.withdrawn is None:
        done = former.done if (users, sessions) == (former.users, former.sessions) else {}
        return replace(former, users=users, sessions=sessions, done=done)
    return replace(fresh, at=max(former.at, fresh.at), users=users, sessions=sessions)


def _change(workspace: Path, changed: Callable[[SuppressionList], list[SuppressedPerson]]) -> SuppressionList:
    while True:
        file = _file_of(workspace)
        with wait_beside(file):
            if _file_of(workspace) != file:  # it was moved meanwhile
                continue
            known = SuppressionList.of(workspace)
            known = SuppressionList(file, secrets.token_bytes(32)) if known is NOBODY else known
            found = replace(known, people=tuple(changed(known)))
            _write(file, found)
            return found


def _file_of(workspace: Path) -> Path:
    known = SuppressionList.of(workspace)
    return workspace / FILE if known is NOBODY else known.file


def _write(file: Path, people: SuppressionList) -> None:
    entries = [asdict(one) for one in people.people]
    told = {"format": FORMAT, "salt": people.salt.hex(), "people": entries}
    try:
        write_atomically(file, json.dumps(told, ensure_ascii=False, indent=0) + "\n", OWNER)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error}", "name a file that you may write to") from error


FOLLOWERS = "serving/followers"
_LOOK = 0.05  # seconds between two looks


class ListFollower:
    """A process that keeps answers in memory, and which suppression list it has applied to them.

    It holds a lock on a file of its own in ``WORKSPACE/serving/followers``, whose content is the digest of the list
    that it applied last. Who changes the list waits until all of them have the present one: :func:`not_reached`. Open
    until :meth:`close`; OSError where the file cannot be made.
    """

    def __init__(self, workspace: Path) -> None:
        self._path = workspace / FOLLOWERS / f"{os.getpid()}-{uuid4().hex}"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, OWNER)
        with ignore(OSError):  # a file system without locks: who looks takes it for a file of a dead process
            lock_now(self._descriptor)

    def applied(self, people: SuppressionList) -> None:
        """Say that nothing in memory is of the people on a list any more; OSError where that cannot be written."""
        text = str(people.digest).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def close(self) -> None:
        """Nothing is in memory any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def not_reached(workspace: Path, patience: float) -> list[int]:
    """Ids of the processes that have not applied the present list after so many seconds."""
    end = time.monotonic() + patience
    while True:
        wanted = str(SuppressionList.of(workspace).digest)
        late = [path for path in (workspace / FOLLOWERS).glob("[0-9]*") if not _has(path, wanted)]
        if not late or time.monotonic() > end:
            return sorted({int(path.name.partition("-")[0]) for path in late})
        time.sleep(_LOOK)


def _has(path: Path, wanted: str) -> bool:
    """Whether a process has applied a list, or is dead."""
    try:
        if path.read_text("utf-8", "replace") == wanted:
            return True
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    with locked_alone(path) as dead:
        if dead:
            path.unlink(missing_ok=True)
    return dead
