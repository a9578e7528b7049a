"""Weights that travel as Python packages, found without importing them."""

from importlib import metadata, util
from pathlib import Path

from molar_retrieval import fingerprint
from molar_retrieval.errors import BackendError


def folder(module: str, *, distribution: str, install: str) -> Path:
    """Where a package keeps its files.

    Args:
        module: Its import name.
        distribution: Its name on the package index.
        install: The command that installs it.

    Raises:
        BackendError: If it is not installed.
    """
    spec = util.find_spec(module)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise BackendError(f"the package {distribution} is not installed", f"run `{install}`")
    return Path(places[0])


def version(distribution: str) -> str:
    """The installed version of a distribution."""
    return metadata.version(distribution)


def digest(distribution: str, file: Path) -> str:
    """What stands for a file's content: the hash that was recorded when its package was installed.

    Reading 90 MB would take longer than everything else that a second run does. Where the installer kept no record,
    the file is read.
    """
    for entry in metadata.files(distribution) or []:
        if entry.name == file.name and entry.hash is not None and Path(str(entry.locate())) == file:
            return f"{entry.hash.mode}:{entry.hash.value}"
    return fingerprint.of_file(file)
