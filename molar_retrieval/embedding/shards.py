"""Encoded batches on disk: they outlive ``kill -9``, and are made a version of the content vectors when all are there.

A shard is an Arrow stream that one run appends to; nothing in it is ever changed. Each of its record batches is one
batch of the encoder with a checksum, and counts only when it is whole, whatever ended the process::

    content/ENCODER.partial/000001.arrow   key, photo, reason and vector of each item of a batch
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.embedding.keys import FIELDS
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import ArtefactStore

_SUFFIX = ".arrow"
_VECTOR = "vector"
_SYNC_SECONDS = 5.0


@dataclass(frozen=True)
class EncodedBatch:
    """One batch of a shard."""

    work: str  # whose batch it is, see work_name; number counts within it
    number: int
    items: pa.RecordBatch  # the columns of keys.FIELDS, one row per item
    vectors: npt.NDArray[np.float32]  # shape (n, dim)


def work_name(identity: str, batch_size: int) -> str:
    """Names the batches of one catalogue: only work on the same inputs in the same batches can go on."""
    return fingerprint.of_json([identity, batch_size])


def shard_folder(artefacts: ArtefactStore, encoder: str) -> Path:
    """Where the shards of the encoder with this fingerprint are; it may not exist."""
    return artefacts.root / f"{fingerprint.of_json(['shards', encoder])}.partial"


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, oldest first."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


class ShardWriter:
    """Appends batches to a new shard; use it in a ``with`` block.

    A shard without a name gets the next number; one at a ``path`` is none until it is renamed.
    """

    def __init__(
        self,
        folder: Path,
        blocks: Sequence[VectorBlock],
        dim: int,
        name: str | None = None,
        *,
        path: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = path or folder / f"{name or f'{len(shard_paths(folder)) + 1:06}'}{_SUFFIX}"
        vector = pa.field(_VECTOR, pa.list_(pa.float32(), dim), nullable=False)
        described = {"blocks": json.dumps([asdict(block) for block in blocks])}
        self._schema = pa.schema([*FIELDS, vector], described)
        self._file = self.path.open("wb")
        self._synced = monotonic()
        self._stream = pa.ipc.new_stream(self._file, self._schema)

    def append(self, work: str, number: int, items: Mapping[str, Any], vectors: npt.NDArray[np.float32]) -> None:
        """Add a batch (see :class:`EncodedBatch`), which survives the end of this process from now on."""
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        arrays = [pa.array(items[field.name], field.type) for field in FIELDS]
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
        batch = pa.record_batch(arrays, schema=self._schema)
        told = {"work": work, "number": str(number), "checksum": _checksum(batch, work, str(number))}
        self._stream.write_batch(batch, custom_metadata=told)
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
            blocks = json.loads(pa.ipc.open_stream(file).schema.metadata[b"blocks"])
            return tuple(VectorBlock(**block) for block in blocks), _batches(path)
        except (pa.ArrowException, TypeError, KeyError, MemoryError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _batches(path: Path) -> Iterator[EncodedBatch]:
    with path.open("rb") as file:
        stream = pa.ipc.open_stream(file)
        while (batch := _next(stream)) is not None:
            items, told = batch
            work, number = told.get(b"work", b"").decode("utf-8", "replace"), told.get(b"number", b"").decode("latin-1")
            if told.get(b"checksum", b"").decode("latin-1") == _checksum(items, work, number):
                vectors = items[_VECTOR].flatten().to_numpy().reshape(len(items), -1)
                yield EncodedBatch(work, int(number), items, vectors)


def _next(stream: pa.RecordBatchReader) -> tuple[pa.RecordBatch, dict[bytes, bytes]] | None:
    """The next batch and what is told of it; None at the end, wherever it is."""
    try:
        batch, told = stream.read_next_batch_with_custom_metadata()
        batch.validate(full=True)
    except (StopIteration, OSError, pa.ArrowException, MemoryError):
        return None
    return batch, dict(told or {})


def _checksum(batch: pa.RecordBatch, work: str, number: str) -> str:
    """Of everything in a batch and what is told of it, and of the stream's schema."""
    value = zlib.crc32(batch.serialize(), zlib.crc32(batch.schema.serialize()))
    return str(zlib.crc32(f"{work} {number}".encode(), value))
