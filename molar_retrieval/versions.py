"""Versions of libraries, for manifests and reports."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version


def library_versions(*names: str) -> dict[str, str]:
    """The installed version of each distribution, and Python's; a missing one is left out."""
    known = {name: _version(name) for name in names}
    return {"python": platform.python_version()} | {name: found for name, found in known.items() if found is not None}


@cache
def _version(name: str) -> str | None:
    """What is installed stays so while a process runs; reading it takes a millisecond."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
