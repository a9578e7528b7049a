"""Vectors of encoders that a workspace had before: the newest version of each stays, so that none is made twice."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from molar_retrieval.embedding.contents import KIND
from molar_retrieval.embedding.shards import shard_folder, shard_paths
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest, Workspace

KEPT = 2
"""Encoders beside the live one whose vectors, finished or not, stay when others are published."""


@dataclass(frozen=True)
class FormerVectors:
    """What an encoder made that does not make the live vectors.

    Attributes:
        encoder: Its name.
        fingerprint: Its fingerprint.
        folder: The version.
        bytes: What it takes on the disk.
    """

    encoder: str
    fingerprint: str
    folder: Path
    bytes: int


def version_by(artefacts: ArtefactStore, encoder: str) -> Path | None:
    """The live version where this encoder (by its fingerprint) made it, else the newest one of it, or None."""
    live = artefacts.current
    versions = [*artefacts.versions(), *([] if live is None else [live])]
    return next((folder for folder in reversed(versions) if _encoder(folder)[0] == encoder), None)


def former_vectors(workspace: Workspace) -> list[FormerVectors]:
    """The newest version of each encoder but the live one's, the newest first."""
    artefacts = workspace[KIND]
    live = artefacts.current
    return list(_former(artefacts, "" if live is None else _encoder(live)[0]))


def spared(artefacts: ArtefactStore, encoder: str, keep: int = KEPT) -> list[Path]:
    """Versions and unfinished work of others that stay beside the vectors of an encoder, by its fingerprint."""
    unfinished = [f for f in artefacts.partials() if shard_paths(f) and f != shard_folder(artefacts, encoder)]
    unfinished.sort(key=lambda folder: folder.stat().st_mtime_ns)
    versions = [one.folder for one in _former(artefacts, encoder)]
    return [*versions[:keep], *(unfinished[-keep:] if keep else ())]


def prune_former(workspace: Workspace) -> list[FormerVectors]:
    """Remove what former encoders made, but what somebody reads; returns the versions that are gone.

    A DataError says that another process embeds.
    """
    artefacts = workspace[KIND]
    if (live := artefacts.current) is None:
        return []
    with workspace.lock(KIND):
        found = former_vectors(workspace)
        own = shard_folder(artefacts, _encoder(live)[0])
        artefacts.prune(0, protect=[own])
        return [one for one in found if not one.folder.exists()]


def _former(artefacts: ArtefactStore, encoder: str) -> Iterator[FormerVectors]:
    told = {encoder, ""}
    for folder in reversed(artefacts.versions()):
        fingerprint, name = _encoder(folder)
        if fingerprint not in told:
            told.add(fingerprint)
            size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
            yield FormerVectors(name, fingerprint, folder, size)


def _encoder(folder: Path) -> tuple[str, str]:
    """Fingerprint and name of the encoder of a version; empty where they cannot be read."""
    with suppress(StaleArtefactError, KeyError, TypeError):
        encoder = Manifest.read(folder).settings["encoder"]
        return str(encoder["fingerprint"]), str(encoder["name"])
    return "", ""
