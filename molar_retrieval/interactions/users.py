"""The one place through which user ids pass on their way into stored artefacts.

Today a user's key is the id itself. Whatever stores or looks up a user asks :class:`UserKeys`, so pseudonyms can be
switched on here without touching anything else.
"""

import pyarrow as pa


class UserKeys:
    """Turns the user ids of a log into the keys under which users are stored."""

    def key(self, user_id: str) -> str:
        """The key of one user: what a query looks up."""
        return user_id

    def keys(self, user_ids: pa.Array) -> pa.Array:
        """The keys of many users, in their order."""
        return user_ids
