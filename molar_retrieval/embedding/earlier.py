"""Vectors that the same encoder made before: the live version, and unfinished work that cannot simply go on."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.embedding.plan import Head
from molar_retrieval.embedding.records import NO_HASH, RECORD, Hashes, Status, hashes, image_stamp
from molar_retrieval.embedding.rowfile import RowFile, Rows, damaged_rows, open_vectors
from molar_retrieval.embedding.store import VECTORS, Store
from molar_retrieval.encoders.base import Block
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace import ArtefactStore, Manifest

ITEMS = "items.parquet"


@dataclass
class Earlier:
    """Known vectors and known photos, from several places. Some 100 bytes of memory per known row.

    Attributes:
        blocks: Of the vectors; empty where there are none.
    """

    blocks: tuple[Block, ...] = ()
    _files: list[RowFile] = field(default_factory=list)
    _records: list[npt.NDArray[Any]] = field(default_factory=list)
    _reasons: list[dict[int, str]] = field(default_factory=list)

    @classmethod
    def collect(cls, artefacts: ArtefactStore, encoder: str) -> Self:
        """Everything under ``content/`` that the encoder with this fingerprint made."""
        found = cls()
        if (folder := artefacts.current) is not None:
            found._add_version(folder, encoder)
        for folder in artefacts.partials():
            found._add_partial(folder, encoder)
        found._index()
        return found

    @property
    def dim(self) -> int | None:
        """Length of the known vectors, None where there are none."""
        return self._files[0].dtype.shape[0] if self._files else None

    def find(self, keys: Hashes) -> Rows:
        """Where each key's vector is, -1 where it is unknown (shape: as many as keys)."""
        return _look_up(self._keys, self._key_order, keys[:, 0], self._all["key"][:, 1], keys[:, 1])

    def image_hashes(self, stamps: npt.NDArray[np.uint64]) -> Hashes:
        """The hash of each photo by its stamp, zeros where it is unknown (shape (n, 2))."""
        rows = _look_up(self._stamps, self._stamp_order, stamps)
        out = np.zeros((len(stamps), 2), np.uint64)
        out[rows >= 0] = self._all["image_hash"][rows[rows >= 0]]
        return out

    def vectors(self, places: Rows) -> npt.NDArray[np.float32]:
        """The vectors at places that :meth:`find` gave."""
        out = np.empty((len(places), self.dim or 0), np.float32)
        for file, start in zip(self._files, self._starts, strict=True):
            mine = np.flatnonzero((places >= start) & (places < start + file.count))
            if len(mine):
                ordered = mine[np.argsort(places[mine], kind="stable")]
                out[ordered] = file.take(places[ordered] - start)
        return out

    def reason(self, place: int) -> str | None:
        """Why the photo of the row at this place was left out, None where it was not (or for place -1)."""
        if place < 0:
            return None
        source = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self._reasons[source].get(place - int(self._starts[source]))

    def close(self) -> None:
        """Release the files."""
        for file in self._files:
            file.close()

    def _add_version(self, folder: Path, encoder: str) -> None:
        try:
            manifest = Manifest.read(folder)
            if manifest.settings["encoder"]["fingerprint"] != encoder:
                return
            blocks = tuple(Block(**block) for block in manifest.settings["blocks"])
            records, reasons = _read_items(folder / ITEMS)
            file = open_vectors(folder / VECTORS)
            if len(records) == file.count:
                records[damaged_rows(file)] = np.zeros((), RECORD)
        except (MolarError, OSError, KeyError, TypeError, ValueError):
            return  # damaged: nothing in it can be trusted, its items are encoded again
        self._add(file, records, reasons, blocks)

    def _add_partial(self, folder: Path, encoder: str) -> None:
        try:
            head = Head.read(folder)
            if head is None or head.encoder != encoder:
                return
            with closing(Store.open(folder, writable=False)) as store:
                records = np.concatenate([_whole(records, whole) for _, records, whole in store.chunks()])
            file = open_vectors(folder / VECTORS)
        except (MolarError, OSError, ValueError):
            return  # as above
        self._add(file, records, store.reasons, head.blocks)

    def _add(
        self, file: RowFile, records: npt.NDArray[Any], reasons: dict[int, str], blocks: tuple[Block, ...]
    ) -> None:
        if len(records) == file.count and (not self._files or self.dim == file.dtype.shape[0]):
            self.blocks = blocks
            self._files.append(file)
            self._records.append(records)
            self._reasons.append(reasons)
        else:
            file.close()

    def _index(self) -> None:
        self._all = np.concatenate(self._records) if self._records else np.zeros(0, RECORD)
        self._starts = np.cumsum([0, *(file.count for file in self._files)])[:-1].astype(np.int64)
        self._records = []
        self._keys, self._key_order = _sorted(self._all["key"][:, 0])
        self._stamps, self._stamp_order = _sorted(self._all["stamp"])

    def __bool__(self) -> bool:
        return bool(self._files)


def _whole(records: npt.NDArray[Any], whole: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """The records of rows that are worth keeping, empty ones for the others."""
    kept = records.copy()
    kept[~whole | (records["status"] == Status.FAILED)] = np.zeros((), RECORD)
    return kept


def _sorted(values: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], Rows]:
    known = np.flatnonzero(values)
    order = known[np.argsort(values[known], kind="stable")]
    return values[order], order


def _look_up(
    ordered: npt.NDArray[np.uint64],
    order: Rows,
    wanted: npt.NDArray[np.uint64],
    check: npt.NDArray[np.uint64] | None = None,
    wanted_check: npt.NDArray[np.uint64] | None = None,
) -> Rows:
    """The row of each wanted value, -1 where there is none or the second halves of the hashes differ."""
    if not len(ordered):
        return np.full(len(wanted), -1, np.int64)
    places = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    rows = order[places]
    hit = (ordered[places] == wanted) & (wanted != 0)
    if check is not None and wanted_check is not None:
        hit &= check[rows] == wanted_check
    return np.where(hit, rows, -1)


def _read_items(path: Path) -> tuple[npt.NDArray[Any], dict[int, str]]:
    """The records and reasons of a complete version, from its table of items."""
    parts, reasons, row = [], {}, 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["key", "image", "image_size", "image_mtime", "image_hash", "reason"]):
            records = np.zeros(batch.num_rows, RECORD)
            records["key"] = hashes([key or NO_HASH for key in batch["key"].to_pylist()])
            records["image_hash"] = hashes([key or NO_HASH for key in batch["image_hash"].to_pylist()])
            records["image_size"] = batch["image_size"].to_numpy(zero_copy_only=False)
            records["image_mtime"] = batch["image_mtime"].to_numpy(zero_copy_only=False)
            records["status"] = np.where(records["key"].any(axis=1), Status.DONE, Status.FAILED)
            sizes, mtimes = records["image_size"].tolist(), records["image_mtime"].tolist()
            photos = zip(batch["image"].to_pylist(), sizes, mtimes, strict=True)
            records["stamp"] = [
                0 if path is None or size < 0 else image_stamp(path, size, t) for path, size, t in photos
            ]
            reasons.update(_some(batch["reason"], row))
            parts.append(records)
            row += batch.num_rows
    return np.concatenate(parts), reasons


def _some(column: pa.Array, first: int) -> dict[int, str]:
    if column.null_count == len(column):
        return {}
    return {first + i: str(reason) for i, reason in enumerate(column.to_pylist()) if reason is not None}
