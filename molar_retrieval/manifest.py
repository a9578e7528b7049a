"""What is said about a version of an artefact: what it is, what it was made from, and how."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from molar_retrieval import __version__
from molar_retrieval.durable import write_atomically
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.locks import MANIFEST

FORMAT = 1
MAKERS = {
    "catalogue": "molar embed CATALOG",
    "interactions": "molar align",
    "content": "molar embed CATALOG",
    "cf": "molar cf",
    "alignment": "molar align",
    "generations": "molar align",
}
"""Kinds of artefacts, in the order in which they are made, and the command that makes each."""
OTHERS = {"statistics": "molar align --privacy EPSILON"}
"""Kinds that only some workspaces have."""
PRIVATE = "private"
"""The fact of an alignment on statistics with noise that tells of their release."""


@dataclass(frozen=True)
class Manifest:
    """What an artefact is and what it was made from."""

    kind: str
    fingerprint: str  # names this version; equal inputs and settings give equal fingerprints
    inputs: Mapping[str, str] = field(default_factory=dict)  # fingerprint of each input artefact, by kind
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the result: counts, dimensions, timings
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))  # in UTC (ISO 8601)
    format: int = FORMAT
    molar: str = __version__
    number: int = 0  # 1 + the highest of its kind when it was published; 0 before that

    @property
    def text(self) -> str:
        """What ``manifest.json`` holds."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into the folder."""
        write_atomically(folder / MANIFEST, self.text)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``manifest.json``; a StaleArtefactError says that it is unreadable or of an unknown format."""
        path = folder / MANIFEST
        try:
            manifest = cls(**json.loads(path.read_text("utf-8")))
            if not isinstance(manifest.number, int):
                raise TypeError(f"number is {manifest.number!r}")
        except (OSError, ValueError, TypeError, RecursionError) as error:
            maker = MAKERS.get(folder.parent.name, "the command that made it")
            raise StaleArtefactError(
                f"{path} is unreadable: {error}", f"delete {folder} and run `{maker}` again"
            ) from error
        if manifest.format != FORMAT:
            maker = MAKERS.get(manifest.kind, "the command that made it")
            raise StaleArtefactError(
                f"{folder} has format {manifest.format}, this version of molar reads {FORMAT}", f"run `{maker}` again"
            )
        return manifest


def number_of(folder: Path) -> int:
    """The number of a version, by which versions are ordered; -1 where its manifest cannot be read."""
    with suppress(StaleArtefactError):
        return Manifest.read(folder).number
    return -1
