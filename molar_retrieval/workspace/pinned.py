"""What a command reads, fixed at its start: rows of items are places in one catalogue, and mean nothing in another.

Other commands may publish while one is at work. Each therefore takes the live versions of what it reads once, checks
that they belong together, passes them on in the workspace's place, and asks before it publishes if they are live still.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace.artefacts import MAKERS, ArtefactStore, Manifest, Workspace

_MADE = {"catalogue": "read anew", "content": "embedded anew", "generations": "published"}


class PinnedWorkspace(Workspace):
    """A workspace of which some kinds of artefacts stay the versions that were live when they were taken.

    As a context manager it says so of an error that comes of a version's removal, and names ``work``, the command.
    """

    def __init__(self, root: Path, work: str) -> None:
        super().__init__(root)
        self.work = work
        self._pins: dict[str, tuple[Path, Manifest]] = {}

    def __getitem__(self, kind: str) -> ArtefactStore:
        """The store of one kind; the live version of a pinned one is the pinned one."""
        if kind in self._pins:
            return ArtefactStore(self.root / kind, kind, self._pins[kind])
        return super().__getitem__(kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        gone = [name for name, (folder, _) in self._pins.items() if not folder.is_dir()]
        if gone and isinstance(error, Exception) and not isinstance(error, _MovedError):
            raise self._moved(gone[0]) from error

    @property
    def names(self) -> dict[str, str]:
        """The folder of each pinned version, by kind, for another process that is to read the same."""
        return {kind: folder.name for kind, (folder, _) in self._pins.items()}

    def take(self, kind: str, version: tuple[Path, Manifest]) -> None:
        """Pin one more version; StaleArtefactError where it and the pinned ones do not belong together."""
        self._pins[kind] = version
        manifests = {name: manifest for name, (_, manifest) in self._pins.items()}
        for made, other in _contradictions(manifests):
            command = MAKERS[made].replace("CATALOG", str(self.catalogue))
            raise StaleArtefactError(f"the {other} has changed since the {made} was made", f"run `{command}` again")

    def confirm(self) -> None:
        """Called under the lock before publishing: StaleArtefactError where what was read is not live any more."""
        for kind, (_, manifest) in self._pins.items():
            live = ArtefactStore(self.root / kind, kind).live
            if live is None or _said(live[1]) != _said(manifest):
                raise self._moved(kind)

    def _moved(self, kind: str) -> "_MovedError":
        return _MovedError(
            f"the {kind} was {_MADE.get(kind, 'made anew')} while `{self.work}` was running, so its result would belong"
            " to items that are not there any more; nothing was published",
            f"run `{self.work}` again",
        )


class _MovedError(StaleArtefactError):
    """Inputs were replaced while a command was at work with them."""


def pin(workspace: Workspace, *kinds: str, optional: tuple[str, ...] = (), work: str) -> PinnedWorkspace:
    """Take the live versions of some kinds of artefacts for a command; of a pinned workspace, what it has pinned.

    ``optional`` kinds are taken where they are there; ``work`` is the command, for people.

    Raises:
        MissingArtefactError: If one is missing.
        StaleArtefactError: If one is damaged, or they do not belong together.
    """
    inputs = PinnedWorkspace(workspace.root, workspace.work if isinstance(workspace, PinnedWorkspace) else work)
    for kind in kinds:
        inputs.take(kind, workspace[kind].require())
    for kind in optional:
        if (live := workspace[kind].live) is not None:
            inputs.take(kind, live)
    return inputs


def pin_named(workspace: Workspace, names: Mapping[str, str], work: str) -> PinnedWorkspace:
    """Take the versions that another process has pinned; a StaleArtefactError says that one is gone."""
    inputs = PinnedWorkspace(workspace.root, work)
    for kind, name in names.items():
        folder = workspace.root / kind / name
        inputs.take(kind, (folder, Manifest.read(folder)))
    return inputs


def _said(manifest: Manifest) -> tuple[str, object]:
    """What a version is, and what the people in it are called, which its name does not tell."""
    return manifest.fingerprint, manifest.facts.get("people")


def _contradictions(manifests: Mapping[str, Manifest]) -> Iterator[tuple[str, str]]:
    """(what was made, what it was made from) of all pairs that do not belong together."""
    for made, manifest in manifests.items():
        for other, fingerprint in manifest.inputs.items():
            if other not in manifests or manifests[other].fingerprint == fingerprint:
                continue
            items = manifest.facts.get("item_ids") or (manifest.facts.get("sources") or {}).get("items")
            same_items = items is not None and items == manifests[other].facts.get("ids")
            if (made, other) != ("interactions", "catalogue") or not same_items:  # else the rows are the same
                yield made, other
