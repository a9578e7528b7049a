"""Reader → encoder → shard: texts and decoded photos of the next batches are ready before the encoder asks for them.

A finished batch is handed to the operating system before the next one is encoded (less than a millisecond), which
bounds what ``kill -9`` can take to the batch in flight. Several workers, each with an encoder, take shards of a job.
"""

import json
import os
from collections import defaultdict, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from time import perf_counter
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from molar_retrieval.data.images import ImageError, open_image
from molar_retrieval.embedding.content_vectors import FIELDS, NO_FILE, ContentScan, Rows, check_disk, stat_image
from molar_retrieval.embedding.vector_cache import NO_HASH, ShardWriter, hash_image, item_key
from molar_retrieval.encoders.base import Encoder, EncoderInput, Planner
from molar_retrieval.errors import BackendError
from molar_retrieval.progress import Notes, Progress
from molar_retrieval.workspace.jobs import Shard, ShardWork, atomic_file
from molar_retrieval.workspace.settings import EmbedSettings

NO_MEMORY = "out of memory even when encoded alone"
NOT_FINITE = "the encoder returned NaN or infinity (dtype = float32 may help)"
_BUCKET = 32  # characters; texts of one bucket cost about the same
_AHEAD = 3  # batches
_AHEAD_BYTES = 256 << 20  # of decoded photos
_ATTEMPTS = 3
_CLEAN_CALLS = 8
_BATCHES = 16  # of a shard: half a minute of one processor, a second of a GPU


class Clock:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Charge what happens inside to ``stage``."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - started

    def rounded(self) -> dict[str, float]:
        """Seconds by stage, and in total since the clock was made."""
        total = perf_counter() - self._started
        return {stage: round(seconds, 3) for stage, seconds in [*self.seconds.items(), ("total", total)]}


def batches_of(scan: ContentScan, pending: npt.NDArray[np.bool_], batch_size: int) -> list[Rows]:
    """Cut the pending rows into batches of similar cost, each in catalogue order.

    Rows go by length of text (long ones first, so that too little memory shows at once), then by photo.
    """
    rows = np.flatnonzero(pending)
    order = np.lexsort((rows, ~scan.has_image[rows], -(scan.lengths[rows] // _BUCKET)))
    return [np.sort(rows[order[first : first + batch_size]]) for first in range(0, len(rows), batch_size)]


class Texts:
    """What the encoder has to read, a line of a file for each row; used in a ``with`` block."""

    def __init__(self, file: IO[bytes], starts: Mapping[int, int] | npt.NDArray[np.int64]) -> None:
        self._file, self._starts = file, starts

    def fetch(self, rows: Iterable[int]) -> list[tuple[str | None, str | None]]:
        """(text, photo path) of each row."""
        found = []
        for row in rows:
            self._file.seek(int(self._starts[row]))
            text, image = json.loads(self._file.readline().decode("utf-8", "surrogatepass"))
            found.append((text, image))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class PendingTexts(Texts):
    """A file to which rows are added, and which is gone after the block; it has a name where it is to be ``shared``."""

    def __init__(self, folder: Path, count: int, *, shared: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.starts = np.zeros(count, np.int64)  # where the line of each row begins
        super().__init__((NamedTemporaryFile if shared else TemporaryFile)(dir=folder), self.starts)

    def add(self, row: int, text: str | None, image: str | None) -> None:
        """The text and photo path of a row."""
        self.starts[row] = self._file.tell()
        line = json.dumps([text, image], ensure_ascii=False)
        self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")

    def share(self) -> Path:
        """The file, with all that was added up to now, as other machines see it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return Path(self._file.name)


@dataclass(frozen=True)
class Photo:
    """A photo as it was when it was read."""

    image: Image.Image | None = None
    reason: str | None = None  # why it could not be decoded
    image_hash: bytes | None = None
    size: int = NO_FILE  # in bytes, -1 where there is no file
    mtime: int = 0  # in ns
    seconds: float = 0.0  # time spent on it


def load_photo(folder: Path, path: str) -> Photo:
    """Decode a photo and hash its bytes; what is returned belongs together even if the file is replaced meanwhile."""
    started = perf_counter()
    for _ in range(_ATTEMPTS):
        size, mtime = stat_image(folder, path)
        image, reason = decode(folder, path)
        image_hash = hash_image(folder, path, exists=size >= 0)
        if stat_image(folder, path) == (size, mtime):
            return Photo(image, reason, image_hash, size, mtime, perf_counter() - started)
    return Photo(None, "it kept changing while it was read", NO_HASH, seconds=perf_counter() - started)


def decode(folder: Path, path: str) -> tuple[Image.Image | None, str | None]:
    """A photo, or None and why it cannot be used."""
    try:
        return open_image(folder, path), None
    except ImageError as error:
        return None, error.reason
    except OSError as error:
        return None, f"cannot be read: {error}"


@dataclass
class InputBatch:
    """What the encoder gets for some rows, in catalogue order, and the columns of FIELDS that are remembered."""

    rows: Rows
    inputs: list[EncoderInput] = field(default_factory=list)
    items: dict[str, list[Any]] = field(default_factory=lambda: {field.name: [] for field in FIELDS})
    seconds: float = 0.0  # of reading, summed over threads

    def fail(self, i: int, reason: str) -> None:
        """Note that the ``i``-th item could not be encoded; the next run tries it again."""
        self.items["key"][i], self.items["reason"][i] = None, reason


def read_batches(texts: Texts, folder: Path, encoder: str, batches: Iterable[Rows]) -> Generator[InputBatch]:
    """The batches in order, read by a few threads; the next ones are read meanwhile, within a bound on their memory.

    ``encoder`` is the fingerprint that goes into the keys. Close it: that ends the threads.
    """
    pool = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "molar-read")

    def begin(rows: Rows) -> tuple[InputBatch, list[tuple[str | None, str | None]], list[Future[Photo] | None]]:
        started = perf_counter()
        pairs = texts.fetch(rows.tolist())
        photos = [None if path is None else pool.submit(load_photo, folder, path) for _, path in pairs]
        return InputBatch(rows, seconds=perf_counter() - started), pairs, photos

    try:
        waiting = iter(batches)
        window = deque(begin(rows) for rows in [next(waiting, None)] if rows is not None)
        while window:
            batch, pairs, photos = window.popleft()
            memory = 1
            for (text, path), future in zip(pairs, photos, strict=True):
                photo = Photo() if future is None else future.result()
                batch.inputs.append(EncoderInput(text, photo.image))
                key = item_key(encoder, text, photo.image_hash)
                found = (key, path, photo.size, photo.mtime, photo.image_hash, photo.reason)
                for column, value in zip(batch.items.values(), found, strict=True):
                    column.append(value)
                batch.seconds += photo.seconds
                memory += 0 if photo.image is None else 3 * photo.image.width * photo.image.height
            ahead = max(1, min(_AHEAD, _AHEAD_BYTES // memory))
            while len(window) < ahead and (rows := next(waiting, None)) is not None:
                window.append(begin(rows))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class AdaptiveBatches:
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
        left = [i for i, item in enumerate(batch.inputs) if item.text is not None or item.image is not None]
        while left:
            piece = left[: self._limit]
            try:
                vectors[piece] = self._checked(batch, piece)
            except MemoryError:
                if len(piece) > 1:
                    self._limit, self._clean = len(piece) // 2, 0
                    self._progress.note(f"out of memory with {len(piece)} items at once: going on with {self._limit}")
                    continue
                batch.fail(piece[0], NO_MEMORY)
            else:
                self._clean += 1
                if self._limit is not None and self._clean >= _CLEAN_CALLS:
                    self._limit, self._clean = 2 * self._limit if 2 * self._limit < len(batch.rows) else None, 0
            left = left[len(piece) :]
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


def encode_batches(
    texts: Texts, folder: Path, encoder: Encoder, shard: ShardWriter, batches: Sequence[Rows], clock: Clock,
    progress: Progress,
) -> None:  # fmt: skip
    """Encode batches, with photos in ``folder``, and append them to a shard.

    A BackendError says that the encoder returns no vectors.
    """
    encode = AdaptiveBatches(encoder, progress)
    progress.start("embed", sum(map(len, batches)))
    with closing(read_batches(texts, folder, encoder.info.fingerprint, batches)) as read:
        for _ in batches:
            with clock("wait"):
                batch = next(read)
            clock.seconds["read"] += batch.seconds
            with clock("encode"):
                vectors = encode(batch)
            with clock("write"):
                shard.append(batch.rows, batch.items, vectors)
            progress.advance(len(batch.rows))
    progress.finish()


def check_encoder(encoder: Encoder, fingerprint: str, dim: int | None) -> Encoder:
    """The encoder; a BackendError says that it is not the one with this fingerprint and dimension.

    ``dim`` is None where it has made no vectors yet.
    """
    if encoder.info.fingerprint != fingerprint:
        raise BackendError(
            f"the model {encoder.info.name} is not the one that was described a moment ago",
            "run again; if it stays so, name a fixed revision",
        )
    if dim not in (None, encoder.dim):
        raise BackendError(
            f"the encoder {encoder.info.name} makes {encoder.dim} numbers now and made {dim} before",
            "its adapter must change its fingerprint with the dimension; report it to the author",
        )
    return encoder


@dataclass(frozen=True)
class EncodeJob:
    """What workers need to encode; what is there already is known by its rows, not by the files of shards.

    Attributes:
        folder: Of the shards.
        texts: The file with what has to be read.
        catalogue: The folder with the photos.
        settings: Of the encoder.
        planner: What makes it of them.
        fingerprint: Of the encoder that is meant.
        work: The identity of what is embedded.
        dim: Of the vectors that are there already; None: there are none.
        items: Vectors of the version, and of these how many have to be made.
        run: Of no other run.
    """

    folder: Path
    texts: Path
    catalogue: Path
    settings: EmbedSettings
    planner: Planner
    fingerprint: str
    work: str
    dim: int | None
    items: tuple[int, int]
    run: str
    task: str = "embed"

    @property
    def gpu(self) -> bool:
        """Where the device is left open, or is one."""
        return self.settings.device == "auto" or self.settings.device.startswith("cuda")

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{self.run}-{shard:06}.arrow"

    def is_whole(self, shard: int) -> bool:
        """Never: of a run, only what is missing becomes shards."""
        return False

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Load the encoder."""
        encoder = check_encoder(self.planner(self.settings).load(), self.fingerprint, self.dim)
        check_disk(self.folder, self.items[0], encoder.dim, self.items[1])

        def work(shard: Shard) -> Sequence[str]:
            notes, batches = Notes(), [np.array(rows, np.int64) for rows, _ in shard.given]
            starts = {row: begin for rows, begins in shard.given for row, begin in zip(rows, begins, strict=True)}
            with (
                Texts(self.texts.open("rb"), starts) as texts,
                atomic_file(self.path(shard.number)) as partial,
                ShardWriter(partial, self.work, encoder.blocks, encoder.dim) as writer,
            ):
                encode_batches(texts, self.catalogue, encoder, writer, batches, Clock(), notes)
                writer.sync()
            return notes.notes

        yield work


def shards_of(batches: Sequence[Rows], texts: PendingTexts) -> list[Shard]:
    """Some batches are a shard; it is given the rows, and where their texts begin, of each."""
    groups = [batches[begin : begin + _BATCHES] for begin in range(0, len(batches), _BATCHES)]
    return [
        Shard(n, sum(map(len, group)), [(rows.tolist(), texts.starts[rows].tolist()) for rows in group])
        for n, group in enumerate(groups)
    ]
