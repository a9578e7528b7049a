"""Where user ids become keys for storage and look-up: the ids themselves today; pseudonyms can be switched on here.

Who is known by a session alone has a key that no user id can have.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_USER, _SESSION = "@user:", "@session:"


def user_key(user_id: str) -> str:
    """The key under which a user is stored."""
    return _USER + user_id if user_id.startswith((_USER, _SESSION)) else user_id


def session_key(session_id: str) -> str:
    """The key under which somebody is stored who is known by a session alone."""
    return _SESSION + session_id


def of_key(key: str) -> tuple[str, str]:
    """Whose key it is: ``user_id`` or ``session_id``, and which."""
    if key.startswith(_SESSION):
        return "session_id", key.removeprefix(_SESSION)
    return "user_id", key.removeprefix(_USER)


def user_keys(user_ids: "pa.Array") -> "pa.Array":
    """The keys of many users, in their order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    taken = pc.match_substring_regex(user_ids, f"^({_USER}|{_SESSION})")
    if not pc.any(taken, min_count=0).as_py():
        return user_ids
    return pa.array([None if one is None else user_key(one) for one in user_ids.to_pylist()], pa.string())


def person_keys(
    user_ids: "pa.Array", session_ids: "pa.Array", identified: Mapping[str, str] | None = None
) -> "pa.Array":
    """The keys of people by user id or, where there is none, by session id.

    ``identified`` names the user that a session is, by session id.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if identified:
        sessions, users = pa.array(list(identified), pa.string()), pa.array(list(identified.values()), pa.string())
        user_ids = pc.coalesce(user_ids, users.take(pc.index_in(session_ids, sessions)))
    return pc.coalesce(user_keys(user_ids), pc.binary_join_element_wise(_SESSION, session_ids, ""))
