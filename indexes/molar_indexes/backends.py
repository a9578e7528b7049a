"""The table of index backends: a new one is a line here and a module beside this one, imported when it is asked for.

It has ``build(folder, spec, items, progress)``, ``restate(former, folder, spec, items)`` and
``open_folder(folder, spec)``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from molar_retrieval.errors import BackendError, SettingsError, suggestion
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.index_protocol import Index, IndexItem, IndexSpec, StoredItem


@dataclass(frozen=True)
class Backend:
    """The module of one kind of index, and the command that installs what it needs."""

    module: str
    install: str


BACKENDS = {
    "edge": Backend("molar_indexes.edge", 'pip install "qdrant-edge-py>=0.9,<0.10"'),
    "exact": Backend("molar_indexes.exact", "pip install numpy"),
}

FIELD_KINDS = ("keyword", "integer", "float", "bool")


class _Module(Protocol):
    def build(self, folder: Path, spec: IndexSpec, items: Iterable[IndexItem], progress: Progress) -> None: ...
    def restate(self, former: Path, folder: Path, spec: IndexSpec, items: Sequence[StoredItem]) -> None: ...
    def open_folder(self, folder: Path, spec: IndexSpec) -> Index: ...


def open_index(folder: Path, backend: str, spec: IndexSpec) -> Index:
    """Open what :func:`build_index` built, for reading; StaleArtefactError if damaged, else the errors of that."""
    return _module(backend).open_folder(folder, spec)


def build_index(
    folder: Path, backend: str, spec: IndexSpec, items: Iterable[IndexItem], progress: Progress = SILENT
) -> None:
    """Build an index in ``folder``, which must not hold one yet, in bounded memory; rows of the items ascend.

    Raises:
        SettingsError: If there is no such backend.
        BackendError: If a library that it needs is missing.
        DataError: If an item does not fit the spec.
    """
    for field, kind in spec.fields.items():
        if kind not in FIELD_KINDS:
            raise SettingsError(
                f"the payload field {field!r} has the kind {kind!r}", f"kinds are {', '.join(FIELD_KINDS)}"
            )
    _module(backend).build(folder, spec, items, progress)


def restate_index(former: Path, folder: Path, backend: str, spec: IndexSpec, items: Sequence[StoredItem]) -> None:
    """Make the index of another folder again in ``folder``, with other payloads of some ``items``, which are cleaned.

    The other one stays as it is. Errors are those of :func:`build_index`.
    """
    _module(backend).restate(former, folder, spec, items)


def _module(name: str) -> _Module:
    if name not in BACKENDS:
        hint = suggestion(name, BACKENDS, f"choose one of {', '.join(BACKENDS)}")
        raise SettingsError(f"there is no index backend {name!r}", hint)
    backend = BACKENDS[name]
    try:
        return cast(_Module, import_module(backend.module))
    except ImportError as error:
        raise BackendError(f"the index backend {name!r} is not installed: {error}", backend.install) from error
