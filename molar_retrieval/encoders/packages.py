"""Weights that travel as Python packages, found without importing them."""

from importlib import util
from importlib.metadata import files
from importlib.metadata import version as version
from pathlib import Path

from molar_retrieval.errors import BackendError
from molar_retrieval.workspace import fingerprint


def folder(module: str, *, distribution: str, install: str) -> Path:
    """Where a package keeps its files; a BackendError with the command that installs it where it is not there."""
    spec = util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise BackendError(f"the package {distribution} is not installed", f"run `{install}`")
    return Path(spec.submodule_search_locations[0])


def digest(distribution: str, file: Path) -> str:
    """What stands for a file's content: the hash that its installer recorded; where it kept none, the file is read."""
    for entry in files(distribution) or []:
        if entry.name == file.name and entry.hash is not None and Path(str(entry.locate())) == file:
            return f"{entry.hash.mode}:{entry.hash.value}"
    return fingerprint.of_file(file)
