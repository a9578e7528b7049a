"""Reader → encoder → writer: photos are decoded while the encoder computes.

A finished batch is handed to the operating system before the next one is encoded (less than a millisecond), which
bounds what ``kill -9`` can take to the batch in flight.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from molar_retrieval.embedding.keys import Rows
from molar_retrieval.embedding.reader import InputBatch, Reader
from molar_retrieval.embedding.report import Clock
from molar_retrieval.embedding.shards import ShardWriter
from molar_retrieval.encoders.base import Encoder, EncoderPlan
from molar_retrieval.errors import BackendError
from molar_retrieval.progress import Progress

_CLEAN_CALLS = 8
NO_MEMORY = "out of memory even when encoded alone"
NOT_FINITE = "the encoder returned NaN or infinity (dtype = float32 may help)"


def run(
    reader: Reader,
    encoder: Encoder,
    shard: ShardWriter,
    work: str,
    batches: Mapping[int, Rows],
    clock: Clock,
    progress: Progress,
) -> None:
    """Encode numbered batches and append them to a shard; BackendError where the encoder returns no vectors."""
    encode = PatientEncoder(encoder, progress)
    progress.start("embed", sum(map(len, batches.values())))
    with reader:
        loaded = reader.batches(batches.values())
        for number in batches:
            with clock("wait"):
                batch = next(loaded)
            clock.seconds["read"] += batch.seconds
            with clock("encode"):
                vectors = encode(batch)
            with clock("write"):
                shard.append(work, number, batch.items, vectors)
            progress.advance(len(batch.rows))
    progress.finish()


def loaded(plan: EncoderPlan, fingerprint: str) -> Encoder:
    """The encoder of a plan; a BackendError says that it is not the one with this fingerprint."""
    encoder = plan.load()
    if encoder.info.fingerprint != fingerprint:
        raise BackendError(
            f"the model {encoder.info.name} is not the one that was described a moment ago",
            "run again; if it stays so, name a fixed revision",
        )
    return encoder


def require_dim(encoder: Encoder, dim: int | None) -> None:
    """Raise a BackendError where vectors that are there have another length than the encoder's; None: none are."""
    if dim not in (None, encoder.dim):
        raise BackendError(
            f"the encoder {encoder.info.name} makes {encoder.dim} numbers now and made {dim} before",
            "its adapter must change its fingerprint with the dimension; report it to the author",
        )


class PatientEncoder:
    """Encodes batches in smaller pieces where memory is short, and puts a single bad item aside.

    The size is halved when a piece does not fit, and doubled again after some that did.
    """

    def __init__(self, encoder: Encoder, progress: Progress) -> None:
        self._encoder = encoder
        self._progress = progress
        self._limit: int | None = None
        self._clean = 0

    def __call__(self, batch: InputBatch) -> npt.NDArray[np.float32]:
        """The vectors of a batch, shape (len(rows), dim); notes which of its items failed."""
        vectors = np.zeros((len(batch.rows), self._encoder.dim), np.float32)
        visible = [i for i, item in enumerate(batch.inputs) if item.text is not None or item.image is not None]
        limit = min(self._limit or len(visible), len(visible))
        while visible:
            piece = visible[:limit]
            try:
                vectors[piece] = self._checked(batch, piece)
                limit = self._recover(limit, len(batch.rows))
            except MemoryError:
                if len(piece) > 1:
                    limit = self._halve(len(piece))
                    continue
                batch.fail(piece[0], NO_MEMORY)
            visible = visible[len(piece) :]
        return vectors

    def _checked(self, batch: InputBatch, piece: Sequence[int]) -> npt.NDArray[np.float32]:
        vectors = np.array(self._encoder.encode([batch.inputs[i] for i in piece]), np.float32)
        expected = (len(piece), self._encoder.dim)
        if vectors.shape != expected:
            raise BackendError(
                f"the encoder {self._encoder.info.name} returned an array of shape {vectors.shape}, not {expected}",
                "report it to the author of the encoder's adapter",
            )
        for bad in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            vectors[bad] = 0
            batch.fail(piece[int(bad)], NOT_FINITE)
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
