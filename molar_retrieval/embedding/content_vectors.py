"""Content vectors: what they are made from, how other steps read them, and how a version is published."""

import os
import shutil
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.rows import FILE_NAME as REJECTS
from molar_retrieval.data.rows import Rejects
from molar_retrieval.encoders.base import EncoderInfo, VectorBlock
from molar_retrieval.encoders.head import FAMILY
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace import fingerprint, tensors
from molar_retrieval.workspace.artefacts import Manifest
from molar_retrieval.workspace.files import require_space
from molar_retrieval.workspace.pinned import PinnedWorkspace
from molar_retrieval.workspace.resources import library_versions
from molar_retrieval.workspace.settings import EmbedSettings

Rows = npt.NDArray[np.int64]  # row numbers
Hashes = npt.NDArray[np.uint64]  # shape (n, 2): 128-bit hashes; zeros where there is none

KIND = "content"
VECTORS, TENSOR = "vectors.safetensors", "vectors"
"""The file of a version's vectors, and its only tensor: one row per item, in the order of the catalogue."""
ITEMS = "items.parquet"  # the table of a version's items: the id, and FIELDS
TEXT = "text"
NO_FILE = -1
ROWS = 4096

DIGEST = pa.binary(16)
FIELDS = [
    pa.field("key", DIGEST),
    pa.field("image", pa.string()),
    pa.field("image_size", pa.int64()),
    pa.field("image_mtime", pa.int64()),
    pa.field("image_hash", DIGEST),
    pa.field("reason", pa.string()),
]
"""What is remembered of an item beside its vector, in shards and in published tables: its key, null where it could not
be encoded; the photo's path (null where it was not looked at), bytes (-1: no file), time in ns and hash; why the photo,
or the item, was left out."""
RECORD: np.dtype[Any] = np.dtype(
    [("key", "<u8", (2,)), ("image_hash", "<u8", (2,)), ("image_size", "<i8"), ("image_mtime", "<i8")]
)
"""The same without paths and reasons, zeros for null."""

_SCHEMA = pa.schema([pa.field(columns.ITEM_ID, pa.string(), nullable=False), *FIELDS])
_LIBRARIES = ("numpy", "torch", "transformers", "sentence-transformers", "pillow")
_ITEM_BYTES = 144  # of an item beside its vector, rounded up
_REPORTED = ("items", "encoded", "reused", "rejected_images", "failed", "without_content", "dim", "missing", "unknown")


@dataclass(frozen=True)
class ContentVectors:
    """A version of the content vectors; nothing is read before it is used."""

    ids: IdMap  # in the order of the catalogue
    vectors: npt.NDArray[np.float32]  # (n, dim), a read-only map; rows of length 1, zeros where nothing was seen
    blocks: tuple[VectorBlock, ...]  # which dimensions stem from what; together they cover the vectors
    info: Mapping[str, Any]  # what the encoder said about itself

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the version in ``folder``; a StaleArtefactError says that its files do not fit together."""
        manifest = Manifest.read(folder)
        try:
            vectors = tensors.mapped(folder / VECTORS)[TENSOR]
            n, dim = vectors.shape
            ids = IdMap(pq.read_table(folder / ITEMS, columns=[columns.ITEM_ID], use_threads=False)[columns.ITEM_ID])
            blocks = tuple(VectorBlock(**block) for block in manifest.settings["blocks"])
            info = manifest.settings["encoder"]
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise _stale(folder, f"cannot be read: {error}") from error
        if len(ids) != n:
            raise _stale(folder, f"has {n} vectors for {len(ids)} items")
        borders = [0, *(block.stop for block in blocks)]
        if [block.start for block in blocks] != borders[:-1] or borders[-1] != dim:
            raise _stale(folder, f"has blocks that do not cover {dim} dimensions")
        return cls(ids, vectors, blocks, info)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def conditioned(self) -> bool:
        """Whether the encoder conditions and weighs its blocks itself, as a fine-tuned one does."""
        return self.info.get("family") == FAMILY

    def block(self, name: str) -> npt.NDArray[np.float32] | None:
        """The dimensions of one block, shape (n, width), or None where the encoder has no such block."""
        found = (self.vectors[:, block.start : block.stop] for block in self.blocks if block.name == name)
        return next(found, None)


def _stale(folder: Path, what: str) -> StaleArtefactError:
    return StaleArtefactError(f"{folder} {what}", "run `molar embed CATALOG` again")


def damaged_rows(folder: Path) -> tuple[int, Rows]:
    """How many vectors a version has, and the rows that hold NaN or an infinite number; raises as tensors.pieces."""
    found, n = [np.zeros(0, np.int64)], 0
    for start, rows in tensors.pieces(folder / VECTORS, TENSOR, ROWS):
        # A sum is finite where all numbers are: one pass instead of two; where it is not, the numbers are looked at.
        if not np.isfinite(rows.sum()):
            found.append(start + np.flatnonzero(~np.isfinite(rows).all(axis=1)))
        n = start + len(rows)
    return n, np.concatenate(found)


def columns_of(catalogue: Catalogue, *names: str) -> Iterator[tuple[int, list[list[str | None]]]]:
    """(first row, one list of strings per named column), a few thousand rows at a time."""
    row = 0
    for batch in catalogue.batches(names, ROWS):
        yield row, [batch.column(name).to_pylist() for name in names]
        row += batch.num_rows


def texts_and_photos(catalogue: Catalogue, rows: Iterable[int]) -> dict[int, tuple[str | None, str | None]]:
    """(text, photo path) of a few rows, by row."""
    wanted, found = sorted(set(rows)), {}
    for first, (texts, images) in columns_of(catalogue, TEXT, columns.IMAGE):
        here = wanted[bisect_left(wanted, first) : bisect_left(wanted, first + len(texts))]
        found.update({row: (texts[row - first], images[row - first]) for row in here})
    return found


@dataclass(frozen=True)
class ContentScan:
    """One look at everything an item's vector may depend on, without opening a photo; 21 bytes per item."""

    lengths: npt.NDArray[np.int32]  # characters of each text, 0 where the encoder gets none
    has_image: npt.NDArray[np.bool_]  # which items name a photo that the encoder would see
    sizes: npt.NDArray[np.int64]  # bytes of each such photo; -1 where there is no such file
    mtimes: npt.NDArray[np.int64]  # in ns
    unseen: int  # how many items name a photo that the encoder cannot see
    identity: str  # equal for two looks exactly if nothing changed between them


def scan(catalogue: Catalogue, info: EncoderInfo) -> ContentScan:
    """Read the catalogue once and ask the file system about each photo."""
    looks = "image" in info.modalities
    n = len(catalogue)
    lengths, has_image = np.zeros(n, np.int32), np.zeros(n, bool)
    sizes, mtimes = np.full(n, NO_FILE, np.int64), np.zeros(n, np.int64)
    row = 0
    for batch in catalogue.batches((TEXT, columns.IMAGE), ROWS):
        here = slice(row, row + batch.num_rows)
        row += batch.num_rows
        if "text" in info.modalities:
            lengths[here] = pc.fill_null(pc.utf8_length(batch.column(TEXT)), 0)
        images = batch.column(columns.IMAGE)
        has_image[here] = np.asarray(pc.is_valid(images))
        if looks:
            sizes[here], mtimes[here] = zip(*(stat_image(catalogue.folder, i) for i in images.to_pylist()), strict=True)
    unseen = 0 if looks else int(has_image.sum())
    has_image &= looks
    parts = [catalogue.manifest.fingerprint.encode(), info.fingerprint.encode(), sizes.tobytes(), mtimes.tobytes()]
    return ContentScan(lengths, has_image, sizes, mtimes, unseen, fingerprint.of_bytes(parts))


def stat_image(folder: Path, image: str | None) -> tuple[int, int]:
    """(bytes, modification time in ns) of a photo, (-1, 0) where there is no such file."""
    if image is None:
        return NO_FILE, 0
    try:
        found = os.stat(f"{folder}/{image}")  # noqa: PTH116 (a million paths)
    except (OSError, ValueError):
        return NO_FILE, 0
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (NO_FILE, 0)


class ItemTable:
    """What is known of each item beside its vector, in the order of the catalogue; some 60 bytes per item."""

    def __init__(self, sizes: npt.NDArray[np.int64], mtimes: npt.NDArray[np.int64]) -> None:
        self.records: npt.NDArray[Any] = np.zeros(len(sizes), RECORD)  # key and hash: zeros before a photo was read
        self.records["image_size"], self.records["image_mtime"] = sizes, mtimes
        self.places: Rows = np.full(len(sizes), -1, np.int64)  # of the vector among those of the cache; -1: none
        self.pending = np.zeros(len(sizes), bool)  # which items this run encodes
        self.filled = np.zeros(len(sizes), bool)  # which vectors are not zero
        self.reasons: dict[int, str] = {}  # why an item's photo, or the whole item, was left out

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """Which items the encoder could not do."""
        found: npt.NDArray[np.bool_] = self.pending & ~self.records["key"].any(axis=1)
        return found


def hashes(digests: Sequence[bytes | None]) -> Hashes:
    """16-byte digests as an array of shape (n, 2); zeros for None."""
    return np.frombuffer(b"".join(one or bytes(16) for one in digests), "<u8").reshape(len(digests), 2)


def digests(found: Hashes) -> list[bytes | None]:
    """The inverse of :func:`hashes`."""
    return [None if not one.any() else one.astype("<u8").tobytes() for one in found]


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """The outcome of :func:`molar_retrieval.embedding.embed`.

    Attributes:
        folder: The live version of the content vectors.
        fingerprint: Of that version.
        encoder: Name of the encoder, or of the file that brought the vectors.
        items: Items in the catalogue; as many rows have a vector.
        encoded: Items that went through the encoder in this run.
        reused: Items whose vector was there already: from an earlier version or an interrupted run.
        rejected_images: Photos that could not be decoded; their items have the text's vector.
        failed: Items that the encoder could not do; they have a zero vector, and the next run tries them again.
        without_content: Items of which the encoder sees nothing; they have a zero vector.
        dim: Length of the vectors.
        up_to_date: Nothing had changed, so no new version was published.
        seconds: By stage: ``load`` the encoder; ``wait`` for the reader, ``encode``, ``write`` (the three parts of the
            encoding loop); ``read`` (texts and photos, summed over threads, overlapped with encoding); ``total``.
        items_per_second: Of the encoding loop; 0 where nothing was encoded.
        missing: Items of the catalogue that a file of vectors lacks.
        unknown: Vectors of a file whose item is not in the catalogue.
        before: Name of the encoder that made the vectors before this run, where it was another one; its vectors stay.
        notes: What else is worth knowing, in sentences.
        catalogue: What is known of the prepared catalogue, see its manifest.
    """

    folder: Path
    fingerprint: str
    encoder: str
    items: int
    encoded: int = 0
    reused: int = 0
    rejected_images: int
    failed: int
    without_content: int
    dim: int
    up_to_date: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    items_per_second: float = 0.0
    missing: int = 0
    unknown: int = 0
    before: str | None = None
    notes: tuple[str, ...] = ()
    catalogue: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, manifest: Manifest, *, up_to_date: bool) -> Self:
        """What a version's manifest tells of the run that made it."""
        found = {name: manifest.facts[name] for name in _REPORTED if name in manifest.facts}
        encoder = manifest.settings["encoder"]["name"]
        return cls(folder=folder, fingerprint=manifest.fingerprint, encoder=encoder, **found, up_to_date=up_to_date)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {**asdict(self), "folder": str(self.folder), "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """The report in a few lines for people, without the notes."""
        if self.up_to_date and not self.encoded:
            outcome = "up to date"
        elif not (self.encoded or self.reused):
            outcome = f"taken over for {self.items - self.missing:,} items"
        else:
            outcome = f"{self.encoded:,} encoded, {self.reused:,} reused"
        lines = [f"{self.items:,} items, vectors of {self.dim:,} numbers by {self.encoder}: {outcome}"]
        odd = {
            "photos unreadable": self.rejected_images,
            "items failed": self.failed,
            "items without content": self.without_content,
        }
        if any(odd.values()):
            lines.append(", ".join(f"{n:,} {what}" for what, n in odd.items() if n))
        if self.before is not None:
            lines.append(f"the vectors by {self.before} stay here: --model {self.before} takes them again")
        if self.encoded:
            spent = {stage: self.seconds.get(stage, 0.0) for stage in ("load", "encode", "wait", "write", "read")}
            stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in spent.items())
            lines.append(f"{self.items_per_second:,.1f} items/s; {stages} (reading overlaps with encoding)")
        return lines


def disk_bytes(items: int, dim: int, encoding: int = 0) -> int:
    """What a version of the vectors takes on disk, and the shards of ``encoding`` items while it is made."""
    return (items + encoding) * (4 * dim + _ITEM_BYTES)


def check_disk(folder: Path, items: int, dim: int, encoding: int = 0) -> None:
    """Raise a DiskError where the work has no room; ``encoding`` items are written twice, into a shard first."""
    require_space(folder, disk_bytes(items, dim, encoding), f"{items} vectors of {dim} numbers take")


def staging(inputs: PinnedWorkspace) -> Path:
    """An empty folder for the files of the next version."""
    shutil.rmtree(inputs[KIND].partial("next"))
    return inputs[KIND].partial("next")


def publish(
    inputs: PinnedWorkspace,
    folder: Path,
    items: ItemTable,
    catalogue: Catalogue,
    *,
    encoder: EncoderInfo,
    blocks: Sequence[VectorBlock],
    settings: EmbedSettings,
    facts: Mapping[str, Any],
    keep: Sequence[Path],
) -> EmbedReport:
    """Make finished vectors the live version, unless another catalogue was prepared meanwhile (StaleArtefactError).

    What the vectors came from stays as it is until the new version is live, so a kill at any moment loses nothing.
    ``keep`` are versions and unfinished work that stay even then.
    """
    failed = items.failed
    rejected = _write_tables(folder, items, catalogue)
    own = {
        "items": len(items.filled),
        "failed": int(failed.sum()),
        "without_content": int((~items.filled & ~failed).sum()),
        "rejected_images": rejected,
        "dim": blocks[-1].stop,
    }
    keys = fingerprint.of_bytes([np.ascontiguousarray(items.records["key"]).data])
    name = fingerprint.of_json([catalogue.manifest.fingerprint, encoder.fingerprint, keys])
    manifest = Manifest(
        kind=KIND,
        fingerprint=name,
        inputs={"catalogue": catalogue.manifest.fingerprint},
        settings={
            "embed": settings.model_dump(mode="json"),
            "encoder": asdict(encoder),
            "blocks": [asdict(block) for block in blocks],
            "template": catalogue.manifest.settings.get("template"),
        },
        facts={**own, **facts},
        versions=library_versions(*_LIBRARIES),
    )
    inputs.confirm()
    artefacts, live = inputs[KIND], inputs[KIND].live
    if live is not None and live[1].fingerprint == name:
        # New times of photos, so that they are not read again; what was damaged is mended.
        artefacts.update_manifest(manifest, folder)
        artefacts.prune(0, protect=keep)
        return EmbedReport.of(live[0], manifest, up_to_date=True)
    taken = {version.name for version in artefacts.versions()}  # one of this name stays until the new one is live
    free = next(one for n in count(1) if (one := name if n == 1 else f"{name}-{n}") not in taken)
    named = folder.with_name(f"{free}{folder.suffix}")
    shutil.rmtree(named, ignore_errors=True)
    place = artefacts.publish(folder.rename(named), manifest, protect=keep)
    return EmbedReport.of(place, manifest, up_to_date=False)


def _write_tables(folder: Path, items: ItemTable, catalogue: Catalogue) -> int:
    """Write items.parquet and rejects.parquet; returns how many photos were left out."""
    images, failed = 0, items.failed
    with pq.ParquetWriter(folder / ITEMS, _SCHEMA, compression="zstd") as writer, Rejects(folder / REJECTS) as rejects:
        for first, (ids, paths) in columns_of(catalogue, columns.ITEM_ID, columns.IMAGE):
            rows = range(first, first + len(ids))
            reasons = [items.reasons.get(row) for row in rows]
            for row, item_id, path, reason in zip(rows, ids, paths, reasons, strict=True):
                if reason is not None:
                    images += not failed[row]
                    rejects.add(path or ITEMS, row + 1, item_id, reason)
            here = items.records[first : first + len(ids)]
            image_hashes = digests(here["image_hash"])
            seen = [path if digest else None for path, digest in zip(paths, image_hashes, strict=True)]
            keys = digests(np.where(failed[rows.start : rows.stop, None], 0, here["key"]))
            arrays = [ids, keys, seen, here["image_size"], here["image_mtime"], image_hashes, reasons]
            table = [pa.array(array, field.type) for array, field in zip(arrays, _SCHEMA, strict=True)]
            writer.write_batch(pa.record_batch(table, schema=_SCHEMA))
    return images
