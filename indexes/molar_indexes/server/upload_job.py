"""Points on their way to a server as a work in shards: each worker opens the generation and a connection of its own.

What is there already is known by the server: the file of a shard only says how many points were sent.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from molar_indexes.generations import open_generation
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.connect import connected
from molar_indexes.server.layout import Layout
from molar_indexes.server.upload import upload
from molar_indexes.server.uploads import uploads_of
from molar_retrieval.progress import Notes, Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import Runner, Shard, ShardWork, atomic_file
from molar_retrieval.workspace.settings import IndexSettings

SHARD = 20_000
"""Rows of a shard: some seconds."""


@dataclass(frozen=True)
class UploadJob:
    """Rows of a generation for a collection that is there.

    Attributes:
        workspace: Its folder.
        generation: Name of the generation.
        server: Whom to ask, and how patiently.
        settings: By which the collection was made; ``uploads`` batches of a worker are sent at once.
        collection: Its name.
        resumed: Whether some points may be there already.
        task: What the progress calls it.
    """

    workspace: Path
    generation: str
    server: ServerConfig
    settings: IndexSettings
    collection: str
    resumed: bool
    task: str
    gpu: bool = False

    @property
    def folder(self) -> Path:
        """Of what was sent in this run."""
        return self.workspace / "push" / "sent"

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:08}.txt"

    def is_whole(self, shard: int) -> bool:
        """Never: the server is asked."""
        return False

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Open generation and connection."""
        place = Workspace(self.workspace)
        with open_generation(place, self.generation) as generation, connected(self.server) as connection:
            uploads = uploads_of(generation, self.server, Layout.of(self.settings))
            (one,) = [each for each in uploads if each.name == self.collection]

            def work(shard: Shard) -> Sequence[str]:
                told = Notes()
                sent = upload(
                    connection, one.name, shard.given, one.read, one.between, resumed=self.resumed,
                    at_once=self.settings.uploads, progress=told, task=self.task,
                )  # fmt: skip
                with atomic_file(self.path(shard.number)) as partial:
                    partial.write_text(str(sent), "utf-8")
                return told.notes

            yield work

    def sent_by(self, runner: Runner, count: int, progress: Progress) -> int:
        """Have the rows 0, 1, … ``count`` sent; returns how many points were."""
        shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
        self.folder.mkdir(parents=True)
        try:
            groups = [range(first, min(first + SHARD, count)) for first in range(0, count, SHARD)]
            shards = [Shard(number, len(group), group) for number, group in enumerate(groups)]
            for note in runner.run(self, shards, progress).notes:
                progress.note(note)
            return sum(int(self.path(shard.number).read_text("utf-8")) for shard in shards)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
