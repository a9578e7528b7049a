"""Which catalogue a workspace is of, and which workspace a folder has.

``workspace.json`` names the catalogue from the root and from the workspace's own folder, so that both may be moved
together. It is provisional until a command has come to its end: until then another catalogue may take its place.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from molar_retrieval.durable import write_atomically
from molar_retrieval.errors import DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.locks import lock_now
from molar_retrieval.manifest import FORMAT, MANIFEST

DEFAULT_NAME = ".molar"
NAME = "workspace.json"
_LOCK = "binding.lock"
_EVENTS = "events"


@dataclass(frozen=True)
class Binding:
    """What ``workspace.json`` says.

    Attributes:
        catalogue: The catalogue's folder when it was written.
        beside: The same from the workspace's folder; None in files of earlier versions.
        provisional: Whether no command has come to its end yet.
    """

    catalogue: Path
    beside: str | None = None
    provisional: bool = False

    @classmethod
    def of(cls, root: Path, catalogue: Path, *, provisional: bool = False) -> Self:
        """That of a workspace at ``root``."""
        return cls(catalogue, os.path.relpath(catalogue, root.resolve()), provisional)

    @classmethod
    def read(cls, root: Path) -> Self:
        """Raises a StaleArtefactError where it is damaged, or of another format."""
        path = root / NAME
        try:
            record = json.loads(path.read_text("utf-8"))
            known, beside = record["format"], record.get("beside")
            found = cls(Path(record["catalogue"]), None if beside is None else str(beside), "provisional" in record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StaleArtefactError(
                f"{path} is damaged: it does not say which catalogue this workspace serves",
                "delete this file and run `molar embed CATALOG` again; nothing else is lost",
            ) from error
        if known != FORMAT:
            raise StaleArtefactError(
                f"{root} has format {known!r}, this version of molar reads {FORMAT}",
                "delete it, or name another one with --workspace DIR, and run `molar embed CATALOG`",
            )
        return found

    @property
    def _record(self) -> dict[str, Any]:
        more = {"beside": self.beside} if self.beside is not None else {}
        return {"format": FORMAT, "catalogue": str(self.catalogue), **more} | (
            {"provisional": True} if self.provisional else {}
        )

    def write(self, root: Path) -> None:
        """Put it into a workspace, which is made, for its user alone, where it is not there."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(root / NAME, json.dumps(self._record, ensure_ascii=False))

    def is_text(self, text: str) -> bool:
        """Whether this is what was written for it, byte by byte."""
        return text.rstrip("\n") in (json.dumps(self._record, ensure_ascii=False), json.dumps(self._record))

    def now(self, root: Path) -> Path:
        """Where the catalogue is: beside the workspace as before, where its files are there, else as it was written."""
        if self.beside is not None:
            beside = (root.resolve() / self.beside).resolve()
            if beside != self.catalogue and _has_files(root, beside, copied=True):
                return beside
        return self.catalogue


def is_workspace(root: Path) -> bool:
    """Whether there is one, of whatever catalogue."""
    return (root / NAME).exists()


def is_unrecorded(root: Path) -> bool:
    """Whether there is such a folder, and no record in it: an incomplete restore leaves a part of a workspace."""
    return root.is_dir() and not is_workspace(root)


def no_workspace(root: Path) -> MissingArtefactError:
    """The error that there is no workspace at ``root``."""
    if is_unrecorded(root):
        return MissingArtefactError(
            f"{root} is not a whole workspace: it has no {NAME}, the record of its catalogue",
            "run `molar embed CATALOG` here, which makes it the workspace of that catalogue, restore all of it, or name"
            " another workspace with --workspace DIR",
        )
    return MissingArtefactError(
        f"there is no workspace at {root}: nothing was made for this shop yet",
        "run `molar embed CATALOG`, then `molar align`, or name another workspace with --workspace DIR",
    )


def check(root: Path, catalogue: Path) -> Binding | None:
    """What the workspace at ``root`` says, which may be one of this catalogue; None where there is no workspace.

    A DataError says that there is no such folder, or that the workspace is another catalogue's.
    """
    if not is_workspace(root):
        if not catalogue.is_dir():
            raise DataError(f"there is no folder {catalogue}", "correct the path of the catalogue")
        return None
    found = Binding.read(root)
    served = found.now(root)
    if served == catalogue:
        return found
    if served.is_dir() and not _yields(root, found):
        raise DataError(
            f"the workspace {root} serves the catalogue {served}, not {catalogue}",
            f"name another workspace with --workspace DIR, or say that its catalogue is this one now:"
            f" `molar workspace move --catalog {catalogue}`",
        )
    if not served.is_dir() and not found.provisional and not _has_files(root, catalogue):
        raise DataError(
            f"the workspace {root} serves the catalogue {served}, which is gone, and {catalogue} has other files",
            f"if it is the same shop, run `molar workspace move --catalog {catalogue}`; else name another workspace"
            " with --workspace DIR",
        )
    return found


def claim(root: Path, catalogue: Path, *, provisional: bool = False) -> str:
    """Make the workspace at ``root`` one of this catalogue; what has moved since, as a sentence or nothing.

    Raises as :func:`check`.
    """
    catalogue = catalogue.resolve()
    found = check(root, catalogue)
    if found is None:
        Binding.of(root, catalogue, provisional=provisional).write(root)
        return ""
    served = found.now(root)
    if served == catalogue:
        if found != (kept := Binding.of(root, catalogue, provisional=provisional and found.provisional)):
            with suppress(OSError):  # on a read-only disk
                kept.write(root)
        return "" if found.catalogue == catalogue else f"the catalogue of {root} is now at {catalogue}"
    Binding.of(root, catalogue, provisional=provisional).write(root)
    return "" if found.provisional else f"the catalogue of {root} moved: from {served} to {catalogue}"


@contextmanager
def claimed(root: Path, catalogue: Path) -> Iterator[str]:
    """As :func:`claim`, for good once the block ends well and left something; if it fails, a new claim is gone.

    A process that is killed leaves a provisional one, with its work.
    """
    new = not is_workspace(root)
    told = claim(root, catalogue, provisional=True)
    try:
        with _at_work(root):
            yield told
    except Exception:
        _withdraw(root, new=new)
        raise
    if Binding.read(root).provisional and not _left_something(root):
        _withdraw(root, new=new)
    else:
        claim(root, catalogue)


def workspace_for(catalogue: Path, start: Path) -> Path:
    """The workspace of a catalogue: one that is its own in ``start`` or above, else a new one in ``start``.

    It is ``.molar``, or where that is another catalogue's, ``.molar-NAME`` by the catalogue's name. A ``.molar`` in
    ``start`` without a record ends the search there.
    """
    start, catalogue = start.resolve(), catalogue.resolve()
    for folder in _searched(start):
        for root in _workspaces(folder):
            if _serves(root, catalogue):
                return root
    own = f"{DEFAULT_NAME}-{catalogue.name}"
    names = (DEFAULT_NAME, *(own if n == 1 else f"{own}-{n}" for n in range(1, 100)))
    return next(root for name in names if _may_have(root := start / name, catalogue))


def nearest_workspace(start: Path) -> Path:
    """The workspace nearest to ``start``, searched upward as git does; ``start/.molar`` where there is none.

    That is taken as well where it is there without a record, so that no other shop's workspace stands in for it. A
    DataError where a folder has several names them.
    """
    start = start.resolve()
    if is_unrecorded(start / DEFAULT_NAME):
        return start / DEFAULT_NAME
    for folder in _searched(start):
        found = _workspaces(folder)
        whole = [root for root in found if not _is_provisional(root)] or found
        if len(whole) > 1:
            each = " and ".join(f"{root.name} ({_name(root)})" for root in whole)
            ways = " or ".join(f"--workspace {os.path.relpath(root, start)}" for root in whole)
            raise DataError(f"{len(whole)} shops are in {folder}: {each}", f"say which one: {ways}")
        if whole:
            return whole[0]
    return start / DEFAULT_NAME


def file_beside(root: Path, name: str) -> Path:
    """A file that people write for a workspace: ``rules.toml`` beside it, ``rules-NAME.toml`` for ``.molar-NAME``."""
    path = Path(name)
    own = root.name.removeprefix(DEFAULT_NAME) if root.name.startswith(f"{DEFAULT_NAME}-") else ""
    return root.parent / f"{path.stem}{own}{path.suffix}"


def _searched(start: Path) -> list[Path]:
    return [start] if is_unrecorded(start / DEFAULT_NAME) else [start, *start.parents]


def _workspaces(folder: Path) -> list[Path]:
    named: list[Path] = []
    with suppress(OSError):
        named = sorted(folder.glob(f"{DEFAULT_NAME}-*"))
    return [root for root in (folder / DEFAULT_NAME, *named) if is_workspace(root)]


def _serves(root: Path, catalogue: Path) -> bool:
    with suppress(StaleArtefactError):
        found = Binding.read(root)
        served = found.now(root)
        return served == catalogue or (not served.is_dir() and _has_files(root, catalogue))
    return False


def _may_have(root: Path, catalogue: Path) -> bool:
    """Whether a catalogue may have a workspace, or be told what is wrong with it."""
    try:
        found = Binding.read(root) if is_workspace(root) else None
    except StaleArtefactError:
        return True
    return found is None or found.now(root) == catalogue or not found.now(root).is_dir() or _yields(root, found)


def _is_provisional(root: Path) -> bool:
    with suppress(StaleArtefactError):
        return Binding.read(root).provisional
    return False


def _name(root: Path) -> str:
    try:
        return str(Binding.read(root).now(root))
    except StaleArtefactError as error:
        return error.message


def _has_files(root: Path, folder: Path, *, copied: bool = False) -> bool:
    """Whether a folder has the very files that the workspace's catalogue was read from, by their sizes and times.

    ``copied``: by their sizes.
    """
    store = root / "catalogue"
    try:
        manifest = json.loads((store / (store / "current").read_text("utf-8").strip() / MANIFEST).read_text("utf-8"))
        known = manifest["facts"]["sources"]["files"]
        there = {name: stamp for name, stamp in known.items() if stamp is not None}
        for name, (size, modified) in there.items():
            found = (folder / name).stat()
            if found.st_size != size or (found.st_mtime_ns != modified and not copied):
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(there)


def _yields(root: Path, found: Binding) -> bool:
    """Whether a provisional binding may be another catalogue's: nobody is at work, and no events were taken."""
    if not found.provisional or (root / _EVENTS).exists():
        return False
    with _lock_of(root) as file:
        return _locked(file, shared=False)


@contextmanager
def _at_work(root: Path) -> Iterator[None]:
    with ExitStack() as held:
        if Binding.read(root).provisional:
            _locked(held.enter_context(_lock_of(root)), shared=True)
        yield


def _withdraw(root: Path, *, new: bool) -> None:
    with suppress(OSError, StaleArtefactError), _lock_of(root) as file:
        if new and Binding.read(root).provisional and _locked(file, shared=False):
            (root / NAME).unlink()
    with suppress(OSError):
        if new and {path.name for path in root.iterdir()} == {_LOCK}:
            (root / _LOCK).unlink()
            root.rmdir()


def _left_something(root: Path) -> bool:
    return (root / _EVENTS).exists() or any(root.glob("*/current"))


@contextmanager
def _lock_of(root: Path) -> Iterator[int]:
    descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, *, shared: bool) -> bool:
    try:
        return lock_now(descriptor, shared=shared)
    except OSError:  # a file system without locks
        return True
