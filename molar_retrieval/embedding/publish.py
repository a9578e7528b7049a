"""From rows on disk to a live version: the table of items, the rejects, the manifest."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval import columns, fingerprint
from molar_retrieval.catalog.rejects import FILE_NAME as REJECTS
from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.embedding.earlier import ITEMS
from molar_retrieval.embedding.records import Hashes, Status, digest
from molar_retrieval.embedding.source import Source
from molar_retrieval.embedding.store import VECTORS, Store
from molar_retrieval.encoders.base import Block, EncoderInfo
from molar_retrieval.workspace import ArtefactStore, Manifest

_HASH = pa.binary(16)
_SCHEMA = pa.schema(
    [
        pa.field(columns.ITEM_ID, pa.string(), nullable=False),
        pa.field("key", _HASH),
        pa.field("image", pa.string()),
        pa.field("image_size", pa.int64()),
        pa.field("image_mtime", pa.int64()),
        pa.field("image_hash", _HASH),
        pa.field("reason", pa.string()),
    ]
)
_LIBRARIES = ("numpy", "torch", "transformers", "sentence-transformers", "timm", "pillow")


@dataclass(frozen=True)
class Counts:
    """What became of the items of a version."""

    items: int
    failed: int
    without_content: int
    rejected_images: int


@dataclass(frozen=True)
class Origin:
    """What a version was made from.

    Attributes:
        source: The catalogue.
        encoder: What made the vectors.
        blocks: Of the vectors.
        settings: The settings of the run, as plain data.
        identity: Of the catalogue, its photos and the encoder.
    """

    source: Source
    encoder: EncoderInfo
    blocks: Sequence[Block]
    settings: Mapping[str, Any]
    identity: str


def version_fingerprint(catalogue: str, encoder: str, keys: Hashes) -> str:
    """The name of the version with these keys, in catalogue order."""
    return fingerprint.of_json([catalogue, encoder, fingerprint.of_bytes([np.ascontiguousarray(keys, "<u8").data])])


def publish(artefacts: ArtefactStore, store: Store, origin: Origin, facts: Mapping[str, Any]) -> tuple[Path, Counts]:
    """Make the finished rows the live version.

    The store's folder stays as it is until the new version is live, so a kill at any moment loses nothing.

    Args:
        artefacts: Of the kind ``content``.
        store: All of its rows are done.
        origin: What they were made from.
        facts: Further facts for the manifest.

    Returns:
        The version's folder, and what is in it.

    Raises:
        StaleArtefactError: If another catalogue was prepared meanwhile.
    """
    keys, counts = _write_tables(store, origin.source)
    name = version_fingerprint(origin.source.fingerprint, origin.encoder.fingerprint, keys)
    store.sync()
    folder = artefacts.partial(name)
    _link(store.folder / VECTORS, folder / VECTORS)
    for table in (ITEMS, REJECTS):
        (store.folder / table).replace(folder / table)
    manifest = Manifest(
        kind=artefacts.kind,
        fingerprint=name,
        inputs={"catalogue": origin.source.fingerprint},
        settings={
            "embed": origin.settings,
            "encoder": asdict(origin.encoder),
            "blocks": [asdict(block) for block in origin.blocks],
            "template": origin.source.template,
        },
        facts={**asdict(counts), "dim": store.vectors.dtype.shape[0], "identity": origin.identity, **facts},
        versions=_versions(),
    )
    origin.source.confirm()
    if (live := artefacts.current) is not None and live.name == name:
        # New times of photos, so that they are not read again; what was damaged is mended.
        artefacts.describe(manifest, folder)
        artefacts.prune(0)
        return live, counts
    return artefacts.publish(folder, manifest), counts


def _write_tables(store: Store, source: Source) -> tuple[Hashes, Counts]:
    """Write items.parquet and rejects.parquet into the store's folder."""
    keys = np.zeros((source.count, 2), np.uint64)
    failed = blank = images = 0
    with (
        pq.ParquetWriter(store.folder / ITEMS, _SCHEMA, compression="zstd") as writer,
        Rejects(store.folder / REJECTS) as rejects,
    ):
        for first, (ids, paths) in source.lists(columns.ITEM_ID, columns.IMAGE):
            records = store.records.read(first, first + len(ids))
            keys[first : first + len(ids)] = np.where((records["status"] == Status.FAILED)[:, None], 0, records["key"])
            failed += int((records["status"] == Status.FAILED).sum())
            blank += int((records["status"] == Status.BLANK).sum())
            reasons = [store.reasons.get(row) for row in range(first, first + len(ids))]
            for i, reason in enumerate(reasons):
                if reason is not None:
                    images += int(records["status"][i] != Status.FAILED)
                    rejects.add(paths[i] or ITEMS, first + i + 1, ids[i], reason)
            writer.write_batch(_items(ids, paths, reasons, records))
    return keys, Counts(source.count, failed, blank, images)


def _items(
    ids: Sequence[str | None], paths: Sequence[str | None], reasons: Sequence[str | None], records: npt.NDArray[Any]
) -> pa.RecordBatch:
    seen = np.asarray(records["image_hash"].any(axis=1))
    arrays = [
        ids,
        _binary(records["key"], records["status"] != Status.FAILED),
        [path if was_seen else None for path, was_seen in zip(paths, seen, strict=True)],
        records["image_size"],
        records["image_mtime"],
        _binary(records["image_hash"], seen),
        reasons,
    ]
    return pa.record_batch([pa.array(a, f.type) for a, f in zip(arrays, _SCHEMA, strict=True)], schema=_SCHEMA)


def _binary(values: Hashes, known: npt.NDArray[np.bool_]) -> list[bytes | None]:
    return [digest(value) if is_known else None for value, is_known in zip(values, known.tolist(), strict=True)]


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
