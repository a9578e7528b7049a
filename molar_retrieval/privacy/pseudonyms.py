"""Pseudonyms: what a workspace stores in place of the ids that a shop gives its users, where it is told to.

A pseudonym is a keyed hash of an id (BLAKE2b, RFC 7693, 128 bits), the same on every machine that has the key. A key
is replaced by hashing the stored pseudonyms once more with another one, so there is a chain of keys, and each is
needed.

Ids turn into pseudonyms where they come in (a file, an event, a question); behind, :data:`StoredName` tells the two
apart. A pseudonym stays what it is there. Names become keys for storage and look-up: a user who is known by a session
alone has a key that no user has.
"""

import base64
import binascii
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NewType

from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.config_files import how_to_name, trusted_file
from molar_retrieval.workspace.files import OWNER, file_in, file_stamp, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa


StoredName = NewType("StoredName", str)
"""What a workspace calls a user or a session: the shop's id, or a pseudonym."""

_USER_PREFIX, _SESSION_PREFIX = "@user:", "@session:"


def user_key(name: StoredName) -> str:
    """The key under which a user is stored."""
    return _USER_PREFIX + name if name.startswith((_USER_PREFIX, _SESSION_PREFIX)) else name


def session_key(name: StoredName) -> str:
    """The key under which somebody is stored who is known by a session alone."""
    return _SESSION_PREFIX + name


def of_key(key: str) -> tuple[str, StoredName]:
    """Whose key it is: ``user_id`` or ``session_id``, and which."""
    if key.startswith(_SESSION_PREFIX):
        return "session_id", StoredName(key.removeprefix(_SESSION_PREFIX))
    return "user_id", StoredName(key.removeprefix(_USER_PREFIX))


def user_keys(names: "pa.Array") -> "pa.Array":
    """The keys of many users, in their order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    taken = pc.match_substring_regex(names, f"^({_USER_PREFIX}|{_SESSION_PREFIX})")
    if not pc.any(taken, min_count=0).as_py():
        return names
    return pa.array([None if one is None else user_key(one) for one in names.to_pylist()], names.type)


def person_keys(
    user_ids: "pa.Array", session_ids: "pa.Array", identified: Mapping[StoredName, StoredName] | None = None
) -> "pa.Array":
    """The keys of people by the name of a user or, where there is none, of a session, as the event log has them.

    ``identified`` names the user that a session is, by session.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if identified:
        sessions, users = pa.array(list(identified), pa.string()), pa.array(list(identified.values()), pa.string())
        user_ids = pc.coalesce(user_ids, users.take(pc.index_in(session_ids, sessions)))
    return pc.coalesce(user_keys(user_ids), pc.binary_join_element_wise(_SESSION_PREFIX, session_ids, ""))


FILE = "pseudonyms.json"
"""In a workspace: the marks of the keys that its pseudonyms are made with, and where these were; none: ids are plain.

Where the keys are, the environment or the user configuration says: a workspace must not choose a file of this machine.
"""

_FORM = re.compile("~[0-9a-f]{32}")
_BYTES = 32
_ROW = "row"  # before the digest in an event's id
_USER, _SESSION = b"molar user", b"molar session"
_LOSS = "put the file with all keys there, or name it with MOLAR_PRIVACY_KEY_FILE; without them nobody is found again"
_SETTING = "privacy", "key_file"


@dataclass(frozen=True)
class Pseudonymiser:
    """What people are called in a workspace: what the shop calls them where there are no keys, else by pseudonyms.

    Args:
        keys: The chain of keys, oldest first, each of 32 bytes.
    """

    keys: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, workspace: Path) -> "Pseudonymiser":
        """Those of a workspace, given its folder.

        A DataError if a key is missing, not the one that it was made with, or others may read the file; or if neither
        environment nor user configuration names it.
        """
        file = file_in(workspace, FILE)
        mark = file_stamp(file)
        return _PLAIN if mark is None else _opened(file, mark, trusted_file(*_SETTING))

    def user(self, user_id: str) -> StoredName:
        """What a user is called."""
        return self._name(user_id, _USER)

    def session(self, session_id: str) -> StoredName:
        """What somebody is called who is known by a session alone."""
        return self._name(session_id, _SESSION)

    def key(self, user_id: str | None, session_id: str | None = None) -> str:
        """The key of who is asked about by a user id or, where that is None, by a session id."""
        return session_key(self.session(session_id or "")) if user_id is None else user_key(self.user(user_id))

    def order_line(self, digest: str) -> str:
        """The event id of a row that has none, by the digest (128 bits) of what it says, hashed as a user's id is.

        Without that, who has the log could try users until one of them makes the id of a line.
        """
        return _ROW + hashed(f"~{digest}", self.keys)

    def users(self, user_ids: "pa.Array") -> "pa.Array":
        """What many users are called, in their order; a missing id stays missing."""
        return self._names(user_ids, _USER)

    def sessions(self, session_ids: "pa.Array") -> "pa.Array":
        """What many sessions are called, in their order; a missing id stays missing."""
        return self._names(session_ids, _SESSION)

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """By what each key is recognised; it says nothing of the key."""
        return tuple(blake2b(key, digest_size=4, person=b"molar key").hexdigest() for key in self.keys)

    def _name(self, name: str, person: bytes) -> StoredName:
        return StoredName(name if not self.keys or is_pseudonym(name) else hashed(name, self.keys, person))

    def _names(self, names: "pa.Array", person: bytes) -> "pa.Array":
        if not self.keys:
            return names
        import pyarrow as pa

        encoded = names.dictionary_encode()  # who comes in many rows is hashed once
        found = [self._name(name, person) for name in encoded.dictionary.to_pylist()]
        kind = names.type if pa.types.is_large_string(names.type) else pa.string()
        return pa.array(found, kind).take(encoded.indices)


_PLAIN = Pseudonymiser()


def rehashed(event_id: str, keys: Sequence[bytes]) -> str:
    """An event id with some keys more, where it is one of :meth:`Pseudonymiser.order_line`; others stay."""
    digest = event_id.removeprefix(_ROW)
    return _ROW + hashed(digest, keys) if digest != event_id and is_pseudonym(digest) else event_id


def is_pseudonym(name: str) -> bool:
    """Whether a name has the form of a pseudonym."""
    return _FORM.fullmatch(name) is not None


def hashed(name: str, keys: Sequence[bytes], person: bytes = _USER) -> str:
    """A name, hashed with one key after the other; what has been hashed is no more told apart by what it was."""
    for key in keys:
        person = _USER if is_pseudonym(name) else person
        name = "~" + blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16, key=key, person=person).hexdigest()
    return name


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The keys in a file, one a line in base64, oldest first; a DataError if others may read it, or a line is none."""
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise DataError(f"others may read {path}, which has keys of pseudonyms", f"chmod 600 {path}")
        lines = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the keys of the pseudonyms cannot be read from {path}: {error}", _LOSS) from error
    keys = []
    for number, line in enumerate(lines, 1):
        try:
            key = base64.b64decode(line, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != _BYTES:
            raise DataError(f"{path}, line {number}: no key of {_BYTES} bytes in base64", _LOSS)
        keys.append(key)
    return tuple(keys)


def write_keys(path: Path, keys: Sequence[bytes]) -> None:
    """Keys into a file that its owner alone can read; the file is replaced as a whole."""
    write_atomically(path, "".join(f"{base64.b64encode(key).decode()}\n" for key in keys), OWNER)


def new_key() -> bytes:
    """A key from the operating system's randomness."""
    return secrets.token_bytes(_BYTES)


def outside(key_file: Path, *folders: Path) -> Path:
    """The path of the keys, absolute; a SettingsError where it lies in a folder whose thief would have it."""
    path = key_file.absolute()
    for folder in folders:
        if path.resolve().is_relative_to(folder.resolve()):
            hint = "name another place, which is backed up apart from it"
            raise SettingsError(f"privacy.key_file: {path} lies in {folder}, beside what it is to protect", hint)
    return path


def record(workspace: Path, pseudonyms: Pseudonymiser, key_file: Path) -> None:
    """Say in a workspace which keys its pseudonyms are made with and, for people to read, where these are."""
    told = {"keys": list(pseudonyms.marks), "key_file": str(key_file)}
    write_atomically(workspace / FILE, json.dumps(told, indent=1) + "\n", OWNER)


@lru_cache(maxsize=64)
def _opened(file: Path, _mark: object, place: Path | None) -> Pseudonymiser:
    try:
        recorded = json.loads(file.read_text("utf-8"))
        marks, former = tuple(recorded["keys"]), str(recorded["key_file"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} does not say which keys there are: {error}", "restore it from a backup") from error
    if place is None:
        raise DataError(
            f"the people of {file.parent} are called by pseudonyms, and no file of their keys is named; when they were"
            f" made it was {former}",
            how_to_name(*_SETTING),
        )
    found = Pseudonymiser(read_keys(place)[: len(marks)])
    if found.marks != marks:
        own, wanted = ", ".join(found.marks) or "none", ", ".join(marks)
        raise DataError(f"{place} has the keys {own}; the people of {file.parent} are named by {wanted}", _LOSS)
    return found
