"""People of whom nothing is to be read or kept: who is forgotten, and who objects (GDPR, articles 17 and 21).

The files of a shop are read again and again, so what is removed would come back: therefore there is a list. It names
nobody. An entry has keyed hashes (BLAKE2b, RFC 7693, 128 bits) of what a person is called, by a salt that lies in the
list; who has the list can only try ids.

* **forgotten**: everything up to the moment of the request is left out, wherever it comes from and whenever; what comes
  later counts again. What has no time is always left out.
* **objected**: everything is left out until the objection is withdrawn; who is asked for gets what most people took.

Entries are made by :mod:`molar_retrieval.interactions.suppressing`. The list is a file that is replaced as a whole,
``suppressed.json`` in the workspace, or elsewhere, so that a backup of the workspace can be brought back without it:
then ``suppressed.json`` says that it is elsewhere, and the environment or the user configuration says where, as a
workspace must not choose a file of this machine. Asking whether there is one costs a look into a folder.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from molar_retrieval import fingerprint
from molar_retrieval.errors import DataError
from molar_retrieval.interactions.users import of_key
from molar_retrieval.marks import file_in, mark_of
from molar_retrieval.user_configuration import how_to_name, trusted_file, variable_of

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

USER_NAME, SESSION_NAME = b"molar user", b"molar session"
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

    @classmethod
    def of_json(cls, record: Mapping[str, Any]) -> "SuppressedPerson":
        """From what :func:`dataclasses.asdict` made of it."""
        return cls(**{**record, "users": tuple(record["users"]), "sessions": tuple(record["sessions"])})


@dataclass(frozen=True)
class SuppressedPeople:
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
    def of(cls, workspace: Path) -> "SuppressedPeople":
        """That of a workspace, given its folder.

        Raises:
            DataError: If it is damaged, or not where it is said to be.
        """
        named = trusted_file(*_SETTING)
        file = named or file_in(workspace, FILE)
        mark = mark_of(file)
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
        return self._until.get(self.hashed_user(user_id), NEVER) if self else NEVER

    def session(self, session_id: str) -> int:
        """The same of somebody who is known by a session alone."""
        return self._until.get(self.hashed_session(session_id), NEVER) if self else NEVER

    def person(self, user_id: str | None, session_id: str | None) -> int:
        """The same of who did something, whom a session names only where no user id does."""
        if user_id is not None:
            return self.user(user_id)
        return NEVER if session_id is None else self.session(session_id)

    def keyed(self, key: str) -> int:
        """The same of who has a key of :mod:`molar_retrieval.interactions.users`."""
        kind, name = of_key(key)
        return self.user(name) if kind == "user_id" else self.session(name)

    def users(self, user_ids: "pa.Array") -> "npt.NDArray[np.int64]":
        """The same of many users, in their order; of a missing id, never. Shape (n,)."""
        return self._many(user_ids, self.user)

    def sessions(self, session_ids: "pa.Array") -> "npt.NDArray[np.int64]":
        """The same of many sessions."""
        return self._many(session_ids, self.session)

    def hashed_user(self, user_id: str) -> str:
        """What stands in the list for a name of a user."""
        return blake2b(user_id.encode(), digest_size=16, key=self.salt, person=USER_NAME).hexdigest()

    def hashed_session(self, session_id: str) -> str:
        """What stands in the list for a name of a session."""
        return blake2b(session_id.encode(), digest_size=16, key=self.salt, person=SESSION_NAME).hexdigest()

    def entry(self, kind: Kind, user_id: str) -> SuppressedPerson | None:
        """What the list has of a user."""
        name = self.hashed_user(user_id)
        return next((one for one in self.people if one.kind == kind and name in one.users), None)

    def session_entry(self, kind: Kind, session_id: str) -> SuppressedPerson | None:
        """What the list has of a session that was named itself, not as a user's."""
        name = self.hashed_session(session_id)
        return next((one for one in self.people if one.kind == kind and not one.users and name in one.sessions), None)

    def _many(self, ids: "pa.Array", until: Callable[[str], int]) -> "npt.NDArray[np.int64]":
        import numpy as np

        if not self:
            return np.full(len(ids), NEVER)
        encoded = ids.dictionary_encode()
        own = np.array([*map(until, encoded.dictionary.to_pylist()), NEVER], np.int64)
        found: npt.NDArray[np.int64] = own[np.asarray(encoded.indices.fill_null(len(own) - 1))]
        return found


NOBODY = SuppressedPeople(Path(FILE), b"")


@lru_cache(maxsize=64)
def opened(file: Path, mark: object) -> SuppressedPeople | Path:
    """The list in a file, or the file that it leads to."""
    if mark is None:
        raise DataError(f"the list of people who are left out is not at {file}", LOST)
    try:
        told = json.loads(file.read_text("utf-8"))
        if "file" in told:
            return Path(told["file"])
        if told["format"] != FORMAT:
            raise ValueError(f"it has format {told['format']}, this version of molar reads {FORMAT}")
        people = tuple(map(SuppressedPerson.of_json, told["people"]))
        return SuppressedPeople(file, bytes.fromhex(told["salt"]), people)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the list of people who are left out cannot be read from {file}: {error}", LOST) from error
