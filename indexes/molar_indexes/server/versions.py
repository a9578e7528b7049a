"""Which versions of Qdrant's client and server understand each other."""

import re


def go_together(client: str, server: str) -> bool:
    """Whether Qdrant promises that two versions understand each other: one minor version apart at most."""
    versions = [re.match(r"(\d+)\.(\d+)", version) for version in (client, server)]
    if any(found is None for found in versions):
        return True
    (major, minor), (other_major, other_minor) = ((int(v[1]), int(v[2])) for v in versions if v is not None)
    return major == other_major and abs(minor - other_minor) <= 1
