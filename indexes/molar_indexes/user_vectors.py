"""Dense vectors of users as a work in shards: a shard is some hundred people, its file their vectors.

What towers make of a history takes most of the time in which a generation's users are written. The files lie among
unfinished generations, where a run that was killed finds them again, and go with the next publication.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from safetensors.numpy import save_file
from threadpoolctl import threadpool_limits

from molar_retrieval import __version__
from molar_retrieval.data.interactions import Interactions, of_tensors, to_tensors
from molar_retrieval.models.store import open_model
from molar_retrieval.models.towers.distributed import threads
from molar_retrieval.progress import Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import ArtefactStore, Manifest
from molar_retrieval.workspace.files import for_owner
from molar_retrieval.workspace.jobs import Runner, Shard, ShardWork, atomic_file
from molar_retrieval.workspace.tensors import Matrix, Rows, TensorsWriter, mapped

SHARD = 1024
"""Users of a shard: some seconds of one processor."""
_VECTORS, _LOG, _ALIGNMENT = "vectors", "log.safetensors", "alignment"


@dataclass(frozen=True)
class UserVectorsJob:
    """Users of a log, by the alignment in a folder."""

    folder: Path
    alignment: Path
    n_items: int
    task: str = "user vectors"
    gpu: bool = False

    @classmethod
    def of(cls, store: ArtefactStore, alignment: tuple[Path, Manifest], log: Interactions) -> Self:
        """All users of a log; unfinished work of the same data, alignment and molar is found again in the store."""
        folder, manifest = alignment
        read = fingerprint.of_bytes(values.view(np.uint8).data for values in to_tensors(log).values())
        name = fingerprint.of_json(["user vectors", __version__, manifest.fingerprint, read, SHARD])
        return cls(store.partial(name[:16]).absolute(), folder.absolute(), log.n_items)

    @property
    def inputs(self) -> Path:
        """The log, as all shards read it."""
        return self.folder / _LOG

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:08}.safetensors"

    def is_whole(self, shard: int) -> bool:
        """Whether the file is there, as long as it says."""
        try:
            return _VECTORS in mapped(self.path(shard))
        except (OSError, ValueError):
            return False

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Open the model; sums are those of one thread."""
        model, log = open_model(self.alignment), of_tensors(mapped(self.inputs), self.n_items)

        def work(shard: Shard) -> Sequence[str]:
            rows = np.arange(shard.given.start, shard.given.stop)
            with atomic_file(self.path(shard.number)) as partial:
                save_file({_VECTORS: np.ascontiguousarray(model.dense_users(log, rows))}, partial)
                for_owner(partial)
            return ()

        with threads(1), threadpool_limits(1, "blas"):
            yield work

    def make(self, log: Interactions, runner: Runner, progress: Progress) -> None:
        """Have all shards made that are missing."""
        if not self.inputs.exists():
            with atomic_file(self.inputs) as partial:
                with TensorsWriter(partial) as writer:
                    for name, values in to_tensors(log).items():
                        writer.append(name, values)
                for_owner(partial)
        groups = [range(first, min(first + SHARD, log.n_users)) for first in range(0, log.n_users, SHARD)]
        runner.run(self, [Shard(number, len(group), group) for number, group in enumerate(groups)], progress)

    def read(self, rows: Rows) -> Matrix:
        """The vectors of some users, at ascending rows, shape (n, dim)."""
        shards = {int(shard): rows[rows // SHARD == shard] % SHARD for shard in np.unique(rows // SHARD)}
        return np.concatenate([mapped(self.path(shard))[_VECTORS][own] for shard, own in shards.items()])
