"""Vectors that encoders have made, found by keys of what items show: nothing is made twice.

An encoder's newest version stays, and so do the shards of runs that did not come to their end. A shard is an Arrow
stream that one run appends to; nothing in it is ever changed. Each of its record batches is a batch of the encoder with
a checksum, and counts only when it is whole, whatever ended the process::

    content/ENCODER.partial/000001.arrow   row in the catalogue, key, photo, reason and vector of each item of a batch
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval import columns
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding.content_vectors import (
    FIELDS,
    ITEMS,
    KIND,
    RECORD,
    TENSOR,
    TEXT,
    VECTORS,
    ContentScan,
    Hashes,
    ItemTable,
    Rows,
    columns_of,
    damaged_rows,
    hashes,
)
from molar_retrieval.encoders.base import EncoderInfo, VectorBlock
from molar_retrieval.errors import MolarError, StaleArtefactError
from molar_retrieval.progress import Progress
from molar_retrieval.workspace import fingerprint, tensors
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest, Workspace

KEPT = 2
"""Encoders beside the live one whose vectors, finished or not, stay when others are published."""
NO_HASH = bytes(16)
UNREADABLE = b"\xff" * 16  # stands for the content of a photo that cannot be read at all
_READER = b"1"  # change it when photos or texts are read in another way
_THREADS = 4
_SYNC_SECONDS = 5.0


def item_key(encoder: str, text: str | None, image_hash: bytes | None) -> bytes:
    """16 bytes that name what an item's vector depends on: the encoder's fingerprint, the text, the photo's hash."""
    text_part = b"-" if text is None else b"+" + text.encode("utf-8", "surrogatepass")
    parts = [_READER, encoder.encode(), text_part, image_hash or b"-"]
    return bytes.fromhex(fingerprint.of_bytes(parts))


def image_stamp(path: str, size: int, mtime_ns: int) -> int:
    """One number for a photo's place, size and time; equal stamps mean that it need not be read again."""
    digest = hashlib.blake2b(f"{path}\0{size}\0{mtime_ns}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def hash_image(folder: Path, image: str, *, exists: bool) -> bytes:
    """Hash of a photo's bytes; all that cannot be read have the same one."""
    try:
        return bytes.fromhex(fingerprint.of_file(folder / image)) if exists else UNREADABLE
    except OSError:
        return UNREADABLE


class VectorCache:
    """Vectors, photos and reasons of all that an encoder has made; some 70 bytes of memory per vector.

    A vector's place is its number among all of them. ``work`` is the identity of what is embedded: what shards have of
    the same is known by its row too, also where a photo's content was unknown before it was read.
    """

    def __init__(self, artefacts: ArtefactStore, encoder: str, work: str) -> None:
        self.blocks: tuple[VectorBlock, ...] = ()  # empty where there are no vectors
        self.version: Path | None = None  # the live one where it is of this encoder, or one from before
        self.published = 0  # how many of the places are the version's: the first ones
        self.records: npt.NDArray[Any] = np.zeros(0, RECORD)  # one per place
        self.own: list[tuple[Rows, int]] = []  # rows of batches of the same work, and the place of the first
        self.reasons: dict[int, str] = {}  # why a photo, or the whole item, was left out, by place
        self._stamps: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)  # of photos, one per place
        self._folder, self._work = shard_folder(artefacts, encoder), work
        self._files: list[tuple[Path, int]] = []  # the version's vectors, shards, and their numbers of rows
        if (version := version_by(artefacts, encoder)) is not None:
            self._add_version(version)
        self.refresh()
        self._by_key = _Index(self.records["key"][:, 0])
        self._by_stamp = _Index(self._stamps)

    @property
    def dim(self) -> int | None:
        """Length of the vectors; None where there are none."""
        return self.blocks[-1].stop if self.blocks else None

    def find(self, keys: Hashes) -> Rows:
        """The place of each key, -1 where it is unknown (shape: as many as keys)."""
        places = self._by_key.find(keys[:, 0])
        same = self.records["key"][places, 1] == keys[:, 1] if len(self.records) else False
        return np.where(same, places, -1)

    def image_hashes(self, stamps: npt.NDArray[np.uint64]) -> Hashes:
        """The hash of each photo by its stamp, zeros where it is unknown (shape (n, 2))."""
        places = self._by_stamp.find(stamps)
        out = np.zeros((len(stamps), 2), np.uint64)
        out[places >= 0] = self.records["image_hash"][places[places >= 0]]
        return out

    def take(self, items: ItemTable) -> None:
        """Note what batches of the same work tell of items that have no vector yet."""
        for rows, first in reversed(self.own):  # the latest attempt counts
            places = np.arange(first, first + len(rows))
            new = items.places[rows] < 0
            items.places[rows[new]] = places[new]
            items.records[rows[new]] = self.records[places[new]]

    def refresh(self) -> None:
        """Read the shards that were written since; places of earlier rows stay, and keys find no others."""
        read = {path for path, _ in self._files}
        for path in shard_paths(self._folder):
            if path not in read:
                self._add_shard(path)

    def assemble(self, path: Path, items: ItemTable, dim: int) -> None:
        """Write the vector of every item in the order of the catalogue, zeros where it has none; notes which are not.

        Reasons of vectors become those of items. A StaleArtefactError says that a vector is not there any more.
        """
        if (lost := int((items.pending & (items.places < 0)).sum())) > 0:
            raise StaleArtefactError(
                f"the vectors of {lost} items were damaged since they were written",
                "run `molar embed CATALOG` again, which encodes these once more; if it stays so, look at the disk",
            )
        order = np.argsort(items.places, kind="stable")
        places = items.places[order]
        with tensors.MatrixWriter(path, TENSOR, (len(places), dim)) as out:
            for first, vectors in self._vectors():
                here = slice(*np.searchsorted(places, [first, first + len(vectors)]))
                rows, found = order[here], vectors[places[here] - first]
                out.write(rows, found)
                items.filled[rows] = found.any(axis=1)
        if self.reasons:
            reasons = map(self.reasons.get, items.places.tolist())
            items.reasons.update((row, reason) for row, reason in enumerate(reasons) if reason is not None)

    def _vectors(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(place of the first, some vectors) in the order of places; StaleArtefactError where a file was damaged."""
        start = 0
        for path, count in self._files:
            row = 0
            if path.name == VECTORS:
                pieces = (vectors for _, vectors in tensors.pieces(path, TENSOR))
            else:
                pieces = (batch.vectors for batch in read_shard(path)[1])
            for vectors in pieces:
                yield start + row, vectors
                row += len(vectors)
            if row != count:
                raise StaleArtefactError(f"{path} was damaged just now", "run `molar embed CATALOG` again")
            start += count

    def _add_version(self, folder: Path) -> None:
        try:
            blocks = tuple(VectorBlock(**block) for block in Manifest.read(folder).settings["blocks"])
            with pq.ParquetFile(folder / ITEMS) as table:
                read = list(map(_read_items, table.iter_batches(columns=[field.name for field in FIELDS])))
            count, damaged = damaged_rows(folder)
        except (MolarError, OSError, KeyError, TypeError, ValueError):
            return  # damaged: nothing in it can be trusted, its items are encoded again
        if sum(len(records) for records, *_ in read) == count:
            self._add(folder / VECTORS, blocks, read)
            self.records[damaged], self._stamps[damaged] = np.zeros((), RECORD), 0
            self.version, self.published = folder, count

    def _add_shard(self, path: Path) -> None:
        place, own, read = len(self.records), [], []
        try:
            blocks, batches = read_shard(path)
            if self.dim not in (None, blocks[-1].stop):
                return
            for batch in batches:
                if batch.work == self._work:
                    own.append((batch.rows, place))
                read.append(_read_items(batch.items))
                place += len(batch.rows)
        except (OSError, ValueError, IndexError):
            return  # as above
        self.own += own
        self._add(path, blocks, read)

    def _add(self, path: Path, blocks: tuple[VectorBlock, ...], read: Sequence["_Items"]) -> None:
        place = len(self.records)
        for records, _, reasons in read:
            self.reasons |= {place + n: reason for n, reason in reasons.items()}
            place += len(records)
        self._files.append((path, place - len(self.records)))
        self.records = np.concatenate([self.records, *(records for records, *_ in read)])
        self._stamps = np.concatenate([self._stamps, *(stamps for _, stamps, _ in read)])
        self.blocks = blocks


_Items = tuple[npt.NDArray[Any], npt.NDArray[np.uint64], dict[int, str]]
"""Records, stamps of photos, and reasons by number, of some items."""


def _read_items(items: pa.RecordBatch) -> _Items:
    records = np.zeros(items.num_rows, RECORD)
    for name in ("key", "image_hash"):
        records[name] = hashes(items[name].to_pylist())
    paths, sizes, times = (items[name].to_pylist() for name in ("image", "image_size", "image_mtime"))
    records["image_size"], records["image_mtime"] = sizes, times
    reasons = {n: reason for n, reason in enumerate(items["reason"].to_pylist()) if reason is not None}
    return records, _stamps(paths, sizes, times), reasons


def _stamps(paths: Sequence[str | None], sizes: Sequence[int], times: Sequence[int]) -> npt.NDArray[np.uint64]:
    """Stamps of photos, 0 where there is none."""
    photos = zip(paths, sizes, times, strict=True)
    found = [0 if path is None or size < 0 else image_stamp(path, size, time) for path, size, time in photos]
    return np.array(found, np.uint64)


class _Index:
    """Finds values other than zero by bisection."""

    def __init__(self, values: npt.NDArray[np.uint64]) -> None:
        known = np.flatnonzero(values)
        self._order = known[np.argsort(values[known], kind="stable")]
        self._values = values[self._order]

    def find(self, wanted: npt.NDArray[np.uint64]) -> Rows:
        """The place of each wanted value, -1 where there is none."""
        if not len(self._values):
            return np.full(len(wanted), -1, np.int64)
        at = np.minimum(np.searchsorted(self._values, wanted), len(self._values) - 1)
        return np.where((self._values[at] == wanted) & (wanted != 0), self._order[at], -1)


def lookup(
    catalogue: Catalogue, scan: ContentScan, info: EncoderInfo, cache: VectorCache, progress: Progress
) -> ItemTable:
    """Find the vector of every item in the cache; the others that show something to the encoder are pending.

    Photos are read only where there is a version to compare with and their stamp is unknown; a first run reads them
    once, on the way to the encoder.
    """
    items = ItemTable(scan.sizes, scan.mtimes)
    progress.start("compare", len(catalogue))
    with ThreadPoolExecutor(_THREADS, "molar-hash") as pool:
        for first, texts, images in shown(catalogue, scan, info):
            here = slice(first, first + len(texts))
            records, has_image = items.records[here], scan.has_image[here]
            records["image_hash"] = _image_hashes(images, records, has_image, cache, catalogue.folder, pool)
            records["key"] = keys_of(info, texts, images, records["image_hash"])
            items.places[here] = cache.find(records["key"])
            items.pending[here] = has_image | [text is not None for text in texts]
            progress.advance(len(texts))
    cache.take(items)
    items.places[~items.records["key"].any(axis=1)] = -1  # the encoder could not do them: it tries again
    items.pending &= items.places < 0
    progress.finish()
    return items


def shown(
    catalogue: Catalogue, scan: ContentScan, info: EncoderInfo
) -> Iterator[tuple[int, list[str | None], list[str | None]]]:
    """(first row, texts, paths of photos) as the encoder would get them, a few thousand rows at a time."""
    reads = "text" in info.modalities
    for first, (texts, images) in columns_of(catalogue, TEXT, columns.IMAGE):
        looked = scan.has_image[first : first + len(images)].tolist()
        yield (
            first,
            [(text or None) if reads else None for text in texts],
            [image if look else None for image, look in zip(images, looked, strict=True)],
        )


def _image_hashes(
    images: Sequence[str | None],
    records: npt.NDArray[Any],
    has_image: npt.NDArray[np.bool_],
    cache: VectorCache,
    folder: Path,
    pool: Executor,
) -> Hashes:
    """The hashes of some items' photos, zeros where they are unknown."""
    stamps = _stamps(images, records["image_size"].tolist(), records["image_mtime"].tolist())
    found = cache.image_hashes(stamps)
    unknown = np.flatnonzero(has_image & ~found.any(axis=1))
    if cache.published and len(unknown):
        read = pool.map(lambda i: hash_image(folder, str(images[i]), exists=bool(stamps[i])), unknown.tolist())
        found[unknown] = hashes(list(read))
    return found


def keys_of(
    info: EncoderInfo, texts: Sequence[str | None], images: Sequence[str | None], image_hashes: Hashes
) -> Hashes:
    """The keys of items as the encoder sees them; zeros where a photo has to be read first."""
    keys = []
    for text, image, image_hash in zip(texts, images, image_hashes, strict=True):
        if image is not None and not image_hash.any():
            keys.append(NO_HASH)
        else:
            keys.append(item_key(info.fingerprint, text, None if image is None else image_hash.tobytes()))
    return hashes(keys)


def shard_folder(artefacts: ArtefactStore, encoder: str) -> Path:
    """Where the shards of the encoder with this fingerprint are; it may not exist."""
    return artefacts.root / f"{fingerprint.of_json(['shards', encoder])}.partial"


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, oldest first."""
    return sorted(folder.glob("*.arrow"))


def next_shard(folder: Path) -> Path:
    """A file in a folder of shards, which is made if need be, that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{len(shard_paths(folder)) + 1:06}.arrow"


@dataclass(frozen=True)
class EncodedBatch:
    """One batch of a shard."""

    work: str  # the identity of what was embedded
    rows: Rows  # of the catalogue
    items: pa.RecordBatch  # FIELDS, one row per item
    vectors: npt.NDArray[np.float32]  # shape (n, dim)


class ShardWriter:
    """Appends batches of a work to a new shard; use it in a ``with`` block."""

    def __init__(self, path: Path, work: str, blocks: Sequence[VectorBlock], dim: int) -> None:
        self.path = path
        vector = pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)
        described = {"blocks": json.dumps([asdict(block) for block in blocks]), "work": work}
        self._schema = pa.schema([pa.field("row", pa.int64()), *FIELDS, vector], described)
        self._file = self.path.open("wb")
        self._synced = monotonic()
        self._stream = pa.ipc.new_stream(self._file, self._schema)

    def append(self, rows: Rows, items: Mapping[str, Any], vectors: npt.NDArray[np.float32]) -> None:
        """Add a batch (see :class:`EncodedBatch`), which survives the end of this process from now on."""
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        fields = [pa.array(items[field.name], field.type) for field in FIELDS]
        arrays = [pa.array(rows), *fields, pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])]
        batch = pa.record_batch(arrays, schema=self._schema)
        self._stream.write_batch(batch, custom_metadata={"checksum": _checksum(batch)})
        self._file.flush()
        if monotonic() - self._synced >= _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Wait until everything written is on the disk: every few seconds, so that a power failure costs little."""
        os.fsync(self._file.fileno())
        self._synced = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the stream's end, which nobody needs: on a full disk it cannot be written
            self._stream.close()
        self._file.close()


def read_shard(path: Path) -> tuple[tuple[VectorBlock, ...], Iterator[EncodedBatch]]:
    """The blocks of a shard's vectors, and its whole batches; it ends where a kill or damage ended it.

    An OSError, or a ValueError, says that not even its beginning can be read.
    """
    with path.open("rb") as file:
        try:
            metadata = pa.ipc.open_stream(file).schema.metadata
            blocks = tuple(VectorBlock(**block) for block in json.loads(metadata[b"blocks"]))
            return blocks, _whole_batches(path, metadata[b"work"].decode())
        except (pa.ArrowException, TypeError, KeyError, MemoryError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _whole_batches(path: Path, work: str) -> Iterator[EncodedBatch]:
    with path.open("rb") as file:
        stream = pa.ipc.open_stream(file)
        while True:
            try:
                batch, metadata = stream.read_next_batch_with_custom_metadata()
                batch.validate(full=True)
            except (StopIteration, OSError, pa.ArrowException, MemoryError):
                return  # the end, wherever it is
            if dict(metadata or {}).get(b"checksum", b"").decode("latin-1") == _checksum(batch):
                vectors = batch["vector"].flatten().to_numpy().reshape(len(batch), -1)
                yield EncodedBatch(work, batch["row"].to_numpy(), batch, vectors)


def _checksum(batch: pa.RecordBatch) -> str:
    """Of everything in a batch, and of the stream's schema."""
    return str(zlib.crc32(batch.serialize(), zlib.crc32(batch.schema.serialize())))


@dataclass(frozen=True)
class PreviousVectors:
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
    return next((folder for folder in reversed(versions) if _encoder_of(folder)[0] == encoder), None)


def previous_vectors(workspace: Workspace) -> list[PreviousVectors]:
    """The newest version of each encoder but the live one's, the newest first."""
    artefacts = workspace[KIND]
    return _previous(artefacts, "" if artefacts.current is None else _encoder_of(artefacts.current)[0])


def kept_versions(artefacts: ArtefactStore, encoder: str) -> list[Path]:
    """Versions and unfinished work of others that stay beside the vectors of an encoder, by its fingerprint."""
    unfinished = [f for f in artefacts.partials() if shard_paths(f) and f != shard_folder(artefacts, encoder)]
    unfinished.sort(key=lambda folder: folder.stat().st_mtime_ns)
    return [*(one.folder for one in _previous(artefacts, encoder)[:KEPT]), *unfinished[-KEPT:]]


def prune_previous(workspace: Workspace) -> list[PreviousVectors]:
    """Remove what previous encoders made, but what somebody reads; returns the versions that are gone.

    A DataError says that another process embeds.
    """
    artefacts = workspace[KIND]
    if (live := artefacts.current) is None:
        return []
    with workspace.lock(KIND):
        found = previous_vectors(workspace)
        artefacts.prune(0, protect=[shard_folder(artefacts, _encoder_of(live)[0])])
        return [one for one in found if not one.folder.exists()]


def _previous(artefacts: ArtefactStore, encoder: str) -> list[PreviousVectors]:
    found, known = [], {encoder, ""}
    for folder in reversed(artefacts.versions()):
        made_by, name = _encoder_of(folder)
        if made_by not in known:
            known.add(made_by)
            size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
            found.append(PreviousVectors(name, made_by, folder, size))
    return found


def _encoder_of(folder: Path) -> tuple[str, str]:
    """Fingerprint and name of the encoder of a version; empty where they cannot be read."""
    with suppress(StaleArtefactError, KeyError, TypeError):
        encoder = Manifest.read(folder).settings["encoder"]
        return str(encoder["fingerprint"]), str(encoder["name"])
    return "", ""
