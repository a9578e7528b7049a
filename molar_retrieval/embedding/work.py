"""The work of one run: taken up where an earlier run stopped, or laid out anew."""

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from molar_retrieval.disk import require
from molar_retrieval.embedding.earlier import Earlier
from molar_retrieval.embedding.plan import HEAD, Head, Plan, Texts, TextWriter
from molar_retrieval.embedding.records import RECORD, Status
from molar_retrieval.embedding.resolve import Resolved, resolve
from molar_retrieval.embedding.source import Scan, Source
from molar_retrieval.embedding.store import CHUNK, Store
from molar_retrieval.encoders.base import Encoder, EncoderInfo
from molar_retrieval.errors import BackendError, MolarError
from molar_retrieval.progress import Progress
from molar_retrieval.workspace import ArtefactStore


@dataclass(frozen=True)
class Work:
    """Rows on disk, and what is left to encode.

    Attributes:
        head: What it is about.
        store: The rows so far.
        plan: The batches.
        texts: What the encoder has to read.
        todo: Numbers of the batches that are not done.
        reused: Rows whose vector was there before this run.
        resumed: Whether an interrupted run left it.
    """

    head: Head
    store: Store
    plan: Plan
    texts: Texts
    todo: list[int]
    reused: int = 0
    resumed: bool = False

    @classmethod
    def resume(cls, folder: Path) -> Self | None:
        """Go on with what an interrupted run left in ``folder``, or None where that is impossible."""
        head = Head.read(folder)
        if head is None:
            return None
        try:
            work = cls._open(folder, head)
        except (MolarError, OSError, ValueError):
            return None  # damaged: what is whole in it is harvested
        try:
            done, reused = np.zeros(head.count, bool), 0
            for start, records, whole in work.store.chunks():
                done[start : start + len(whole)] = whole
                reused += int((whole & (records["status"] == Status.DONE)).sum())
        except OSError:
            done[:] = False  # cut short: as above
        if not done[work.plan.batch < 0].all() or not len(done):
            work.close()
            return None
        return replace(work, todo=work.plan.unfinished(done), reused=reused, resumed=True)

    @classmethod
    def _open(cls, folder: Path, head: Head) -> Self:
        plan, texts = Plan.read(folder)
        store = Store.open(folder, writable=True)
        if not head.count == len(plan.batch) == store.vectors.count:
            texts.close()
            store.close()
            raise ValueError(f"the files of {folder} do not fit together")
        return cls(head, store, plan, texts, plan.unfinished(np.zeros(head.count, bool)))

    @classmethod
    def start(cls, folder: Path, reused: int) -> Self:
        """Open work that was just laid out in ``folder``."""
        head = Head.read(folder)
        if head is None:
            raise FileNotFoundError(folder / HEAD)
        return replace(cls._open(folder, head), reused=reused)

    def close(self) -> None:
        """Release the files."""
        self.store.close()
        self.texts.close()


def lay_out(
    artefacts: ArtefactStore,
    folder: Path,
    source: Source,
    look: Scan,
    info: EncoderInfo,
    batch_size: int,
    encoder: Callable[[], Encoder],
    progress: Progress,
) -> Work:
    """Plan the work anew: rows that are known from earlier are copied, the others are cut into batches.

    Args:
        artefacts: Where earlier vectors are.
        folder: For the unfinished work.
        source: The catalogue.
        look: Of the same catalogue.
        info: The encoder's account of itself.
        batch_size: Most items per batch.
        encoder: Loads it, if it is needed.
        progress: Told how far it is.
    """
    if Head.read(folder) is not None:
        folder.rename(_free(folder.with_name(f"damaged-{folder.name}")))
    folder.mkdir(parents=True, exist_ok=True)
    with (
        closing(Earlier.collect(artefacts, info.fingerprint)) as earlier,
        closing(TextWriter(folder, source.count)) as texts,
    ):
        known = resolve(source, look, info, earlier, progress, texts)
        dim, blocks = earlier.dim, earlier.blocks
        if dim is None or known.pending.any():
            dim, blocks = encoder().dim, encoder().blocks
            _refuse_other_dim(earlier, info, dim)
        check_disk(folder, source.count, dim)
        with closing(Store.create(folder, source.count, dim)) as store:
            reused = _copy(store, known, look, earlier)
    Plan.make(look, known.pending, batch_size).write(folder, texts)
    Head(look.identity, info.fingerprint, batch_size, source.count, dim, blocks).write(folder)
    _drop_harvested(artefacts, folder, info.fingerprint)
    return Work.start(folder, reused)


def _refuse_other_dim(earlier: Earlier, info: EncoderInfo, dim: int) -> None:
    if earlier.dim not in (None, dim):
        raise BackendError(
            f"the encoder {info.name} makes {dim} numbers now and made {earlier.dim} before",
            "its adapter must change its fingerprint with the dimension; report it to the author",
        )


def disk_bytes(count: int, dim: int) -> int:
    """What a version of the vectors takes on disk, with the records kept while it is made."""
    return count * (4 * dim + 2 * RECORD.itemsize)


def check_disk(folder: Path, count: int, dim: int) -> None:
    """Refuse work that cannot be finished.

    Raises:
        DiskError: If the disk has too little room.
    """
    require(folder, disk_bytes(count, dim), f"{count} vectors of {dim} numbers take")


def _copy(store: Store, known: Resolved, look: Scan, earlier: Earlier) -> int:
    """Fill the rows that need no encoding; returns how many have a vector."""
    copied = 0
    for start in range(0, len(known.pending), CHUNK):
        stop = min(start + CHUNK, len(known.pending))
        settled = np.flatnonzero(~known.pending[start:stop])
        rows = settled + start
        places = known.places[rows]
        vectors = np.zeros((len(rows), store.vectors.dtype.shape[0]), np.float32)
        reasons = {}
        if earlier:
            vectors[places >= 0] = earlier.vectors(places[places >= 0])
            told = zip(rows.tolist(), map(earlier.reason, places.tolist()), strict=True)
            reasons = {row: reason for row, reason in told if reason is not None}
        store.write(rows, vectors, known.records(look, start, stop)[settled], reasons)
        copied += int(vectors.any(axis=1).sum())
    return copied


def _drop_harvested(artefacts: ArtefactStore, folder: Path, encoder: str) -> None:
    for other in artefacts.partials():
        head = Head.read(other)
        if other != folder and (head is None or head.encoder == encoder):
            shutil.rmtree(other, ignore_errors=True)


def _free(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
