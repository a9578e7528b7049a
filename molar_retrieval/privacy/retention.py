"""Copies of what people did that lie beside what is live: of evaluations, of unfinished work, older generations.

Nothing that answers is among them. They are for reading again what was measured, for going on with a killed command,
for going back; each is made again by the command that made it, but for figures of the past.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.activity_log import work_done
from molar_retrieval.workspace.artefacts import MAKERS, OTHERS, Manifest, Workspace, discard
from molar_retrieval.workspace.files import exclusive

_DAY = 86_400
_OF_EVALUATIONS = ("splits/*", "models/*/*", "trials/*", "walks/*", "runs/*", "tuning/*", "content/fine-tuned-*")
"""Folders below ``evaluation``; content vectors that no history has shaped are not among them."""
What = Literal["evaluation", "unfinished", "generation"]


@dataclass(frozen=True)
class KeptCopy:
    """One copy: its folder, when it was written last, in seconds since 1970, and the bytes that it takes."""

    what: What
    path: Path
    written: float
    bytes: int

    def days(self, now: float | None = None) -> float:
        """Its age."""
        return ((time.time() if now is None else now) - self.written) / _DAY

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"path": str(self.path)}


def retained_copies(workspace: Workspace) -> list[KeptCopy]:
    """All copies, the oldest first; generations that running experiments show are none."""
    return sorted(_found(workspace), key=lambda one: (one.written, one.path))


def older_than(kept: Iterable[KeptCopy], days: int | None, now: float | None = None) -> list[KeptCopy]:
    """Those of more than so many days; None: none is too old."""
    return [] if days is None else [one for one in kept if one.days(now) > days]


def remove(workspace: Workspace, chosen: Iterable[KeptCopy]) -> list[KeptCopy]:
    """Remove copies; which of them went. What somebody reads or is at work with stays for the next time."""
    evaluating = any(one.what in ("evaluate", "tune") and one.state == "running" for one in work_done(workspace))
    return [one for one in chosen if _removed(workspace, one, evaluating)]


def _removed(workspace: Workspace, one: KeptCopy, evaluating: bool) -> bool:
    if one.what == "evaluation":
        if not evaluating:
            discard(one.path)
        return not evaluating
    try:
        with workspace.lock(one.path.parent.name), exclusive(one.path) as free:
            if free and one.path != workspace[one.path.parent.name].current:
                discard(one.path)
                return True
    except DataError:  # somebody is writing this kind
        return False
    return False


def _found(workspace: Workspace) -> Iterator[KeptCopy]:
    evaluation = workspace.root / "evaluation"
    for pattern in _OF_EVALUATIONS:
        for folder in evaluation.glob(f"{pattern}/"):
            yield _measured("evaluation", folder)
    for kind in (*MAKERS, *OTHERS):
        for folder in workspace[kind].partials():
            yield _measured("unfinished", folder)
    store = workspace["generations"]
    with ExperimentStore(workspace) as experiments:
        stay = {store.current, *(store.root / name for name in experiments.generations())}
    for folder in store.versions():
        if folder not in stay:
            written = None
            with suppress(MolarError, ValueError):  # of one that is damaged, its files tell
                written = datetime.fromisoformat(Manifest.read(folder).created).timestamp()
            yield _measured("generation", folder, written)


def _measured(what: What, folder: Path, written: float | None = None) -> KeptCopy:
    found = [file.lstat() for file in folder.rglob("*") if file.is_file()] or [folder.lstat()]
    last = max(one.st_mtime for one in found)
    return KeptCopy(what, folder, last if written is None else written, sum(one.st_size for one in found))
