"""Ids of points in databases that refuse strings: UUIDv5 of the ids outside, the same everywhere."""

import uuid

_NAMESPACE = uuid.UUID("6d6f6c61-7200-5000-8000-726574726965")  # "molar" … "retrie"


def point_id(item_id: str) -> str:
    """The UUIDv5 under which such a database knows an item or a user; collections keep the two kinds apart."""
    return str(uuid.uuid5(_NAMESPACE, item_id))
