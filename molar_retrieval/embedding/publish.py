"""From vectors in any order to a live version: the file of vectors, the table of items, the rejects, the manifest."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.rows import FILE_NAME as REJECTS
from molar_retrieval.data.rows import Rejects
from molar_retrieval.embedding.catalogue import lists
from molar_retrieval.embedding.contents import ITEMS, KIND, TENSOR, VECTORS
from molar_retrieval.embedding.former import spared
from molar_retrieval.embedding.keys import FIELDS, Hashes, digest
from molar_retrieval.embedding.known import KnownVectors
from molar_retrieval.embedding.report import EmbedReport
from molar_retrieval.embedding.resolve import ItemFacts
from molar_retrieval.encoders.base import EncoderInfo, VectorBlock
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest
from molar_retrieval.workspace.files import require_space
from molar_retrieval.workspace.pinned import PinnedWorkspace
from molar_retrieval.workspace.resources import library_versions
from molar_retrieval.workspace.settings import EmbedSettings
from molar_retrieval.workspace.tensors import MatrixWriter

_SCHEMA = pa.schema([pa.field(columns.ITEM_ID, pa.string(), nullable=False), *FIELDS])
_LIBRARIES = ("numpy", "torch", "transformers", "sentence-transformers", "pillow")
_ITEM_BYTES = 144  # of an item beside its vector, rounded up


@dataclass(frozen=True)
class Origin:
    """What a version was made from; the identity is that of the catalogue, its photos and the encoder."""

    catalogue: Catalogue
    encoder: EncoderInfo
    blocks: Sequence[VectorBlock]
    settings: EmbedSettings
    identity: str


def disk_bytes(count: int, dim: int, encoding: int = 0) -> int:
    """What a version of the vectors takes on disk, and the shards of so many items while it is made."""
    return (count + encoding) * (4 * dim + _ITEM_BYTES)


def check_disk(folder: Path, count: int, dim: int, encoding: int = 0) -> None:
    """Raise a DiskError where the work has no room; ``encoding`` items are written twice, into a shard first."""
    require_space(folder, disk_bytes(count, dim, encoding), f"{count} vectors of {dim} numbers take")


def staging(artefacts: ArtefactStore) -> Path:
    """An empty folder for the files of the next version."""
    folder = artefacts.partial("next")
    shutil.rmtree(folder)
    return artefacts.partial("next")


def assemble(folder: Path, items: ItemFacts, known: KnownVectors, dim: int) -> None:
    """Write the vector of every item in the order of the catalogue, zeros where it has none; notes which are not zero.

    A StaleArtefactError says that one that was encoded is not there any more.
    """
    if (lost := int((items.pending & (items.places < 0)).sum())) > 0:
        raise StaleArtefactError(
            f"the vectors of {lost} items were damaged since they were written",
            "run `molar embed CATALOG` again, which encodes these once more; if it stays so, look at the disk",
        )
    order = np.argsort(items.places, kind="stable")
    places = items.places[order]
    with MatrixWriter(folder / VECTORS, TENSOR, (len(places), dim)) as file:
        for first, vectors in known.vectors():
            here = slice(*np.searchsorted(places, [first, first + len(vectors)]))
            rows, found = order[here], vectors[places[here] - first]
            file.write(rows, found)
            items.filled[rows] = found.any(axis=1)


def publish(
    inputs: PinnedWorkspace, folder: Path, items: ItemFacts, origin: Origin, facts: Mapping[str, Any]
) -> EmbedReport:
    """Make finished vectors the live version, unless another catalogue was prepared meanwhile (StaleArtefactError).

    What the vectors came from stays as it is until the new version is live, so a kill at any moment loses nothing.
    """
    images = _write_tables(folder, items, origin.catalogue)
    facts = {
        "items": len(items.filled),
        "failed": int(items.failed.sum()),
        "without_content": int((~items.filled & ~items.failed).sum()),
        "rejected_images": images,
        "dim": origin.blocks[-1].stop,
        "identity": origin.identity,
        **facts,
    }
    keys = fingerprint.of_bytes([np.ascontiguousarray(items.keys, "<u8").data])
    name = fingerprint.of_json([origin.catalogue.manifest.fingerprint, origin.encoder.fingerprint, keys])
    manifest = Manifest(
        kind=KIND,
        fingerprint=name,
        inputs={"catalogue": origin.catalogue.manifest.fingerprint},
        settings={
            "embed": origin.settings.model_dump(mode="json"),
            "encoder": asdict(origin.encoder),
            "blocks": [asdict(block) for block in origin.blocks],
            "template": origin.catalogue.manifest.settings.get("template"),
        },
        facts=facts,
        versions=library_versions(*_LIBRARIES),
    )
    inputs.confirm()
    artefacts, live = inputs[KIND], inputs[KIND].live
    stays = spared(artefacts, origin.encoder.fingerprint)
    if live is not None and live[1].fingerprint == name:
        # New times of photos, so that they are not read again; what was damaged is mended.
        artefacts.update_manifest(manifest, folder)
        artefacts.prune(0, protect=stays)
        return EmbedReport.of(live[0], manifest, up_to_date=True)
    named = folder.with_name(f"{_free(artefacts, name)}{folder.suffix}")
    shutil.rmtree(named, ignore_errors=True)
    place = artefacts.publish(folder.rename(named), manifest, protect=stays)
    return EmbedReport.of(place, manifest, up_to_date=False)


def _free(artefacts: ArtefactStore, name: str) -> str:
    """A name beside a version of the same from before, which stays until the new one is live."""
    taken = {folder.name for folder in artefacts.versions()}
    return next(one for n in count(1) if (one := name if n == 1 else f"{name}-{n}") not in taken)


def _write_tables(folder: Path, items: ItemFacts, catalogue: Catalogue) -> int:
    """Write items.parquet and rejects.parquet; returns how many photos were left out."""
    images = 0
    with pq.ParquetWriter(folder / ITEMS, _SCHEMA, compression="zstd") as writer, Rejects(folder / REJECTS) as rejects:
        for first, (ids, paths) in lists(catalogue, columns.ITEM_ID, columns.IMAGE):
            here = slice(first, first + len(ids))
            reasons = [items.reasons.get(row) for row in range(first, first + len(ids))]
            for i, reason in enumerate(reasons):
                if reason is not None:
                    images += not items.failed[first + i]
                    rejects.add(paths[i] or ITEMS, first + i + 1, ids[i], reason)
            seen = np.asarray(items.image_hashes[here].any(axis=1))
            arrays = [
                ids,
                _binary(items.keys[here], ~items.failed[here]),
                [path if was_seen else None for path, was_seen in zip(paths, seen, strict=True)],
                items.image_sizes[here],
                items.image_mtimes[here],
                _binary(items.image_hashes[here], seen),
                reasons,
            ]
            table = [pa.array(array, field.type) for array, field in zip(arrays, _SCHEMA, strict=True)]
            writer.write_batch(pa.record_batch(table, schema=_SCHEMA))
    return images


def _binary(values: Hashes, known: npt.NDArray[np.bool_]) -> list[bytes | None]:
    return [digest(value) if is_known else None for value, is_known in zip(values, known.tolist(), strict=True)]
