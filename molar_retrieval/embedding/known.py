"""What an encoder has made so far: its newest version, and the shards of runs that did not come to their end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.embedding.contents import ITEMS, TENSOR, VECTORS, damaged_rows
from molar_retrieval.embedding.former import version_by
from molar_retrieval.embedding.keys import FIELDS, Hashes, Rows, hashes, image_stamp
from molar_retrieval.embedding.shards import read_shard, shard_folder, shard_paths
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.errors import MolarError, StaleArtefactError
from molar_retrieval.workspace import tensors
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest

_RECORD: np.dtype[Any] = np.dtype(
    [
        ("key", "<u8", (2,)),
        ("image_hash", "<u8", (2,)),
        ("stamp", "<u8"),
        ("image_size", "<i8"),
        ("image_mtime", "<i8"),
        ("own", "?"),
    ]
)


class KnownVectors:
    """Vectors, photos and reasons of all rows that an encoder has made; some 90 bytes of memory per row.

    A row's place is its number among all of them. Rows of a run's own batches are not found by their keys: a run that
    goes on makes the batches that it would have made, so its vectors equal those of an undisturbed run bit by bit.
    """

    def __init__(self, artefacts: ArtefactStore, encoder: str, work: str) -> None:
        self.blocks: tuple[VectorBlock, ...] = ()  # empty where there are no vectors
        self.dim: int | None = None  # None where there are no vectors
        self.version: Path | None = None  # the live one where it is of this encoder, or one from before
        self.published = 0  # how many of the places are the version's: the first ones
        self.own: dict[int, int] = {}  # place of the first row of each of the run's own batches, by number
        self.reasons: dict[int, str] = {}  # why a photo, or the whole row, was left out, by place
        self.records: npt.NDArray[Any] = np.zeros(0, _RECORD)  # one per place
        self.work = work  # see shards.work_name
        self._folder = shard_folder(artefacts, encoder)
        self._files: list[tuple[Path, int]] = []  # the version's vectors, shards, and their numbers of rows
        if (version := version_by(artefacts, encoder)) is not None:
            self._add_version(version)
        self.refresh()
        found = np.where(self.records["own"][:, None], 0, self.records["key"])
        self._keys, self._key_order = _sorted(found[:, 0])
        self._stamps, self._stamp_order = _sorted(self.records["stamp"])

    def __bool__(self) -> bool:
        """Whether there are vectors that keys can find."""
        return bool(len(self._keys))

    def find(self, keys: Hashes) -> Rows:
        """The place of each key, -1 where it is unknown (shape: as many as keys)."""
        places = _look_up(self._keys, self._key_order, keys[:, 0])
        same = self.records["key"][places, 1] == keys[:, 1] if len(self.records) else False
        return np.where(same, places, -1)

    def image_hashes(self, stamps: npt.NDArray[np.uint64]) -> Hashes:
        """The hash of each photo by its stamp, zeros where it is unknown (shape (n, 2))."""
        places = _look_up(self._stamps, self._stamp_order, stamps)
        out = np.zeros((len(stamps), 2), np.uint64)
        out[places >= 0] = self.records["image_hash"][places[places >= 0]]
        return out

    def refresh(self) -> None:
        """Read the shards that were written since; places of earlier rows stay, and keys find no others."""
        read = {path for path, _ in self._files}
        for path in shard_paths(self._folder):
            if path not in read:
                self._add_shard(path)

    def vectors(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """(place of the first, some vectors) in the order of places; StaleArtefactError where a file was damaged."""
        start = 0
        for path, count in self._files:
            row = 0
            for vectors in _read(path):
                yield start + row, vectors
                row += len(vectors)
            if row != count:
                raise StaleArtefactError(f"{path} was damaged just now", "run `molar embed CATALOG` again")
            start += count

    def _add_version(self, folder: Path) -> None:
        try:
            manifest = Manifest.read(folder)
            blocks = tuple(VectorBlock(**block) for block in manifest.settings["blocks"])
            reasons: dict[int, str] = {}
            records = [np.zeros(0, _RECORD)]
            with pq.ParquetFile(folder / ITEMS) as table:
                for items in table.iter_batches(columns=[field.name for field in FIELDS]):
                    reasons |= _reasons(items, sum(map(len, records)))
                    records.append(_records(items))
            known = np.concatenate(records)
            count, damaged = damaged_rows(folder)
            if len(known) != count:
                return
            known[damaged] = np.zeros((), _RECORD)
        except (MolarError, OSError, KeyError, TypeError, ValueError):
            return  # damaged: nothing in it can be trusted, its items are encoded again
        self.reasons |= reasons
        self._add(folder / VECTORS, known, blocks)
        self.version, self.published = folder, count

    def _add_shard(self, path: Path) -> None:
        records, blocks = [np.zeros(0, _RECORD)], self.blocks
        place = len(self.records)
        try:
            blocks, batches = read_shard(path)
            if self.dim not in (None, blocks[-1].stop):
                return
            for batch in batches:
                records.append(_records(batch.items))
                records[-1]["own"] = batch.work == self.work
                if batch.work == self.work:
                    self.own[batch.number] = place
                self.reasons |= _reasons(batch.items, place)
                place += len(batch.items)
        except (OSError, ValueError, IndexError):
            return  # as above
        self._add(path, np.concatenate(records), blocks)

    def _add(self, path: Path, records: npt.NDArray[Any], blocks: tuple[VectorBlock, ...]) -> None:
        self._files.append((path, len(records)))
        self.records = np.concatenate([self.records, records])
        self.blocks, self.dim = blocks, blocks[-1].stop


def _read(path: Path) -> Iterator[npt.NDArray[np.float32]]:
    if path.name == VECTORS:
        return (vectors for _, vectors in tensors.pieces(path, TENSOR))
    return (batch.vectors for batch in read_shard(path)[1])


def _records(items: pa.RecordBatch) -> npt.NDArray[Any]:
    records = np.zeros(items.num_rows, _RECORD)
    records["key"] = hashes(items["key"].to_pylist())
    records["image_hash"] = hashes(items["image_hash"].to_pylist())
    paths, sizes, times = (items[name].to_pylist() for name in ("image", "image_size", "image_mtime"))
    records["image_size"], records["image_mtime"] = sizes, times
    photos = zip(paths, sizes, times, strict=True)
    records["stamp"] = [0 if path is None or size < 0 else image_stamp(path, size, time) for path, size, time in photos]
    return records


def _reasons(items: pa.RecordBatch, first: int) -> dict[int, str]:
    return {first + i: reason for i, reason in enumerate(items["reason"].to_pylist()) if reason is not None}


def _sorted(values: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], Rows]:
    known = np.flatnonzero(values)
    order = known[np.argsort(values[known], kind="stable")]
    return values[order], order


def _look_up(ordered: npt.NDArray[np.uint64], order: Rows, wanted: npt.NDArray[np.uint64]) -> Rows:
    """The place of each wanted value, -1 where there is none."""
    if not len(ordered):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return np.where((ordered[at] == wanted) & (wanted != 0), order[at], -1)
