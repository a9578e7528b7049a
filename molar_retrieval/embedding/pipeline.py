"""Reader → encoder → writer: photos are decoded and rows are flushed to the disk while the encoder computes.

The encoder runs in the calling thread. A finished batch is handed to the operating system before the next one is
encoded, which costs less than a millisecond and bounds what ``kill -9`` can take to the batch in flight; waiting for
the disk itself is left to a thread.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.embedding.clock import Clock
from molar_retrieval.embedding.reader import Batch, Reader
from molar_retrieval.embedding.records import Status
from molar_retrieval.embedding.rowfile import Rows
from molar_retrieval.embedding.store import Store
from molar_retrieval.encoders.base import Encoder, EncoderInput
from molar_retrieval.errors import BackendError
from molar_retrieval.progress import Progress

_FLUSH_SECONDS = 5.0
_CLEAN_CALLS = 8
NO_MEMORY = "out of memory even when encoded alone"
NOT_FINITE = "the encoder returned NaN or infinity (dtype = float32 may help)"


def run(
    reader: Reader, encoder: Encoder, store: Store, batches: Sequence[Rows], clock: Clock, progress: Progress
) -> None:
    """Encode the batches and store their rows.

    Raises:
        BackendError: If the encoder returns something other than vectors.
    """
    encode = PatientEncoder(encoder, progress)
    progress.start("embed", sum(map(len, batches)))
    with reader, Flusher(store) as flusher:
        loaded = reader.batches(batches)
        while True:
            with clock("wait"):
                batch = next(loaded, None)
            if batch is None:
                break
            clock.seconds["read"] += batch.seconds
            with clock("encode"):
                vectors = encode(batch)
            with clock("write"):
                store.write(batch.rows, vectors, batch.records, batch.reasons)
            flusher.wrote()
            progress.advance(len(batch.rows))
    progress.finish()


class PatientEncoder:
    """Encodes batches in smaller pieces where memory is short, and puts a single bad item aside.

    The size is halved when a piece does not fit, and doubled again after some that did.
    """

    def __init__(self, encoder: Encoder, progress: Progress) -> None:
        self._encoder = encoder
        self._progress = progress
        self._limit: int | None = None
        self._clean = 0

    def __call__(self, batch: Batch) -> npt.NDArray[np.float32]:
        """The vectors of a batch, shape (len(rows), dim); marks rows of it that failed."""
        vectors = np.zeros((len(batch.rows), self._encoder.dim), np.float32)
        visible = [i for i, item in enumerate(batch.inputs) if item.text is not None or item.image is not None]
        limit = min(self._limit or len(visible), len(visible))
        while visible:
            piece, rest = visible[:limit], visible[limit:]
            try:
                vectors[piece] = self._checked([batch.inputs[i] for i in piece], batch, piece)
            except MemoryError:
                if len(piece) == 1:
                    _fail(batch, piece[0], NO_MEMORY)
                    visible = rest
                    continue
                limit = self._halve(len(piece))
                continue
            visible = rest
            limit = self._recover(limit, len(batch.rows))
        return vectors

    def _checked(self, inputs: Sequence[EncoderInput], batch: Batch, piece: Sequence[int]) -> npt.NDArray[np.float32]:
        vectors = np.array(self._encoder.encode(inputs), np.float32)
        expected = (len(inputs), self._encoder.dim)
        if vectors.shape != expected:
            raise BackendError(
                f"the encoder {self._encoder.info.name} returned an array of shape {vectors.shape}, not {expected}",
                "report it to the author of the encoder's adapter",
            )
        for bad in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            vectors[bad] = 0
            _fail(batch, piece[int(bad)], NOT_FINITE)
        return vectors

    def _halve(self, size: int) -> int:
        self._limit = size // 2
        self._clean = 0
        self._progress.note(f"out of memory with {size} items at once: going on with {self._limit}")
        return self._limit

    def _recover(self, limit: int, full: int) -> int:
        if self._limit is None:
            return limit
        self._clean += 1
        if self._clean >= _CLEAN_CALLS:
            self._clean = 0
            self._limit = None if 2 * self._limit >= full else 2 * self._limit
        return self._limit or full


def _fail(batch: Batch, i: int, reason: str) -> None:
    batch.records["status"][i] = Status.FAILED
    batch.reasons[int(batch.rows[i])] = reason


class Flusher:
    """Has a thread wait for the disk every few seconds, so that a power failure costs little and no write blocks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, "molar-write")
        self._pending: Future[None] | None = None
        self._last = monotonic()

    def __enter__(self) -> Self:
        return self

    def wrote(self) -> None:
        """Something was written.

        Raises:
            OSError: If an earlier flush failed.
        """
        if self._pending is not None and self._pending.done():
            self._pending.result()
            self._pending = None
        if self._pending is None and monotonic() - self._last >= _FLUSH_SECONDS:
            self._last = monotonic()
            self._pending = self._thread.submit(self._store.sync)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if error is None and self._pending is not None:
            self._pending.result()
