r"""Names of payload fields as the Qdrant engine stores them, embedded or on a server.

The engine's JSON paths can quote dots, blanks and any script, but neither ``"`` nor ``\``; these two are
percent-encoded in stored keys. So no field's key begins with ``%`` and anything but ``22``, ``25`` or ``5C``: such keys
are free for our own use.
"""

EXACT = 1 << 53
"""Integers up to here are exact as float64."""
INT64 = 1 << 63
"""Integers below this fit a stored one."""


def key_of(field: str) -> str:
    """The stored key of a field."""
    return field.replace("%", "%25").replace('"', "%22").replace("\\", "%5C")


def field_of(key: str) -> str:
    """The field of a stored key."""
    return key.replace("%5C", "\\").replace("%22", '"').replace("%25", "%")


def quoted(field: str, prefix: str = "") -> str:
    """The JSON path of a field; a ``prefix`` stands before its key."""
    return f'"{prefix}{key_of(field)}"'
