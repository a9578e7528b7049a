"""Batches of the encoder as shards of a work, for several workers at once: each of them loads the encoder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from molar_retrieval.embedding.batches import PendingTexts, SharedTexts
from molar_retrieval.embedding.keys import Rows
from molar_retrieval.embedding.pipeline import loaded, require_dim, run
from molar_retrieval.embedding.publish import check_disk
from molar_retrieval.embedding.reader import Reader
from molar_retrieval.embedding.report import Clock
from molar_retrieval.embedding.shards import ShardWriter
from molar_retrieval.encoders.base import Planner
from molar_retrieval.progress import Notes
from molar_retrieval.workspace.jobs import Shard, ShardWork, atomic_file
from molar_retrieval.workspace.settings import EmbedSettings

_BATCHES = 16
"""Batches of a shard: half a minute of one processor, a second of a GPU."""


@dataclass(frozen=True)
class EncodeJob:
    """What workers need to encode; what is there already is known by its batches, not by the files of shards.

    Attributes:
        folder: Of the shards.
        texts: The file with what has to be read.
        catalogue: The folder with the photos.
        settings: Of the encoder.
        planner: What makes it of them.
        fingerprint: Of the encoder that is meant.
        work: See :func:`molar_retrieval.embedding.shards.work_name`.
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
        encoder = loaded(self.planner(self.settings), self.fingerprint)
        require_dim(encoder, self.dim)
        check_disk(self.folder, self.items[0], encoder.dim, self.items[1])

        def work(shard: Shard) -> Sequence[str]:
            told, batches = Notes(), list(shard.given)
            starts = {row: start for _, rows, starts in batches for row, start in zip(rows, starts, strict=True)}
            with (
                SharedTexts(self.texts, starts) as texts,
                atomic_file(self.path(shard.number)) as partial,
                ShardWriter(self.folder, encoder.blocks, encoder.dim, path=partial) as writer,
            ):
                rows = {number: np.array(rows, np.int64) for number, rows, _ in batches}
                run(Reader(texts, self.catalogue, self.fingerprint), encoder, writer, self.work, rows, Clock(), told)
                writer.sync()
            return told.notes

        yield work


def shards_of(todo: Mapping[int, Rows], texts: PendingTexts) -> list[Shard]:
    """Numbered batches, some of them a shard; it is given the number, the rows and where their texts begin of each."""
    numbers = list(todo)
    groups = [numbers[begin : begin + _BATCHES] for begin in range(0, len(numbers), _BATCHES)]
    return [
        Shard(n, sum(len(todo[i]) for i in group), [(i, todo[i].tolist(), texts.starts(todo[i])) for i in group])
        for n, group in enumerate(groups)
    ]


def anywhere(settings: EmbedSettings) -> EmbedSettings:
    """The settings as they hold in another folder: of an encoder in one, where it is."""
    folder = Path(settings.model).expanduser()
    return settings.model_copy(update={"model": str(folder.absolute())}) if folder.is_dir() else settings


def new_run() -> str:
    """A name that no other run has."""
    return uuid4().hex
