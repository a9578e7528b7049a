"""Where user ids become keys for storage and look-up: the ids themselves today; pseudonyms can be switched on here."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def user_key(user_id: str) -> str:
    """The key under which a user is stored."""
    return user_id


def user_keys(user_ids: "pa.Array") -> "pa.Array":
    """The keys of many users, in their order."""
    return user_ids
