"""Where names of people become keys for storage and look-up: who is known by a session alone has one that no user has.

Names are as a workspace stores them. Of what a shop calls somebody, :mod:`molar_retrieval.interactions.pseudonyms`
makes one where it comes in, and nothing else does: :data:`StoredName` is what tells the two apart.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    import pyarrow as pa

StoredName = NewType("StoredName", str)
"""What a workspace calls a user or a session: the shop's id, or a pseudonym."""

_USER, _SESSION = "@user:", "@session:"


def user_key(name: StoredName) -> str:
    """The key under which a user is stored."""
    return _USER + name if name.startswith((_USER, _SESSION)) else name


def session_key(name: StoredName) -> str:
    """The key under which somebody is stored who is known by a session alone."""
    return _SESSION + name


def of_key(key: str) -> tuple[str, StoredName]:
    """Whose key it is: ``user_id`` or ``session_id``, and which."""
    if key.startswith(_SESSION):
        return "session_id", StoredName(key.removeprefix(_SESSION))
    return "user_id", StoredName(key.removeprefix(_USER))


def user_keys(names: "pa.Array") -> "pa.Array":
    """The keys of many users, in their order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    taken = pc.match_substring_regex(names, f"^({_USER}|{_SESSION})")
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
    return pc.coalesce(user_keys(user_ids), pc.binary_join_element_wise(_SESSION, session_ids, ""))
