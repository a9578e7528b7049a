"""Partners of items as a work in shards: a shard is a block of items, its file what goes with each of them.

What all blocks read lies in one file of arrays, which workers map into memory: those of one machine share it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors.numpy import save_file
from scipy.sparse import csc_matrix, csr_matrix
from threadpoolctl import threadpool_limits

from molar_retrieval.experts.taken import by_rows, side_by_side
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import require_space
from molar_retrieval.workspace.jobs import Runner, Shard, ShardWork, atomic_file
from molar_retrieval.workspace.tensors import Array, Rows, TensorsWriter, mapped

FOLDER = "counting"
"""Where files of unfinished counting lie, in the folder of what is made of them."""
Block = slice | Sequence[Rows]
"""Neighbouring items, or groups of items by their rows."""
_INPUTS = "inputs.safetensors"
_ITEMS, _INDPTR, _ROWS, _VALUES = "items", "indptr", "rows", "values"


class ColumnWork(Protocol):
    """How the columns of a matrix of items by items are made; it is pickled, and frozen."""

    @property
    def task(self) -> str:
        """What the progress calls it."""

    @property
    def most(self) -> int:
        """Weights of a column, at most."""

    def of(self, tensors: Mapping[str, Array]) -> Callable[[Block], csc_matrix]:
        """What makes the columns of a block, shape (n_items, items of the block), of arrays that all of them read."""


@dataclass(frozen=True)
class Counting:
    """Who makes blocks of columns, and the folder of their files, until whoever asked removes it.

    A run that was killed finds those of the same data and settings again.
    """

    folder: Path
    runner: Runner
    progress: Progress = SILENT

    def columns(
        self, work: ColumnWork, tensors: Mapping[str, Array], blocks: Sequence[Block], n_items: int
    ) -> csc_matrix:
        """The columns of blocks in order, mapped, shape (n_items, n_items), float32; those of other items are empty."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return side_by_side(self._made(work, tensors, blocks, n_items), n_items, self.folder)

    def rows(self, work: ColumnWork, tensors: Mapping[str, Array], blocks: Sequence[Block], n_items: int) -> csr_matrix:
        """The same of blocks in any order, as a matrix by rows, in memory."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return by_rows(self._made(work, tensors, blocks, n_items), n_items, self.folder)

    def _made(
        self, work: ColumnWork, tensors: Mapping[str, Array], blocks: Sequence[Block], n_items: int
    ) -> Iterator[tuple[Rows, csc_matrix]]:
        items = [_items(block) for block in blocks]
        read = fingerprint.of_bytes(
            np.ascontiguousarray(one).reshape(-1).view(np.uint8).data for one in tensors.values()
        )
        cut = fingerprint.of_bytes(one.tobytes() for one in items)
        folder = self.folder / fingerprint.of_json([repr(work), [*tensors], read, cut])
        folder.mkdir(parents=True, exist_ok=True)
        need = sum(values.nbytes for values in tensors.values()) + 8 * work.most * sum(map(len, items))
        require_space(folder, need, "counting in blocks takes at most")
        job = ColumnsJob(folder.absolute(), work)
        if not job.inputs.exists():
            with atomic_file(job.inputs) as partial, TensorsWriter(partial) as writer:
                for name, values in tensors.items():
                    writer.append(name, values)
        shards = [Shard(n, len(own), block) for n, (own, block) in enumerate(zip(items, blocks, strict=True))]
        self.runner.run(job, shards, self.progress)
        yield from (job.read(shard.number, n_items) for shard in shards)


@dataclass(frozen=True)
class ColumnsJob:
    """Blocks of columns as shards."""

    folder: Path
    work: ColumnWork
    gpu: bool = False

    @property
    def task(self) -> str:
        """What the progress calls it."""
        return self.work.task

    @property
    def inputs(self) -> Path:
        """The file that all shards read."""
        return self.folder / _INPUTS

    def path(self, shard: int) -> Path:
        """The file of a block."""
        return self.folder / f"{shard:08}.safetensors"

    def is_whole(self, shard: int) -> bool:
        """Whether the file is there, as long as it says."""
        try:
            return {*mapped(self.path(shard))} == {_ITEMS, _INDPTR, _ROWS, _VALUES}
        except (OSError, ValueError):
            return False

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Map what all blocks read; sums of a block are those of one thread."""
        made = self.work.of(mapped(self.inputs))

        def work(shard: Shard) -> Sequence[str]:
            columns = made(shard.given)
            tensors = {
                _ITEMS: _items(shard.given), _INDPTR: columns.indptr.astype(np.int64),
                _ROWS: columns.indices.astype(np.int32), _VALUES: columns.data.astype(np.float32),
            }  # fmt: skip
            with atomic_file(self.path(shard.number)) as partial:
                save_file(tensors, partial)
            return ()

        with threadpool_limits(1, "blas"):
            yield work

    def read(self, shard: int, n_items: int) -> tuple[Rows, csc_matrix]:
        """The items of a block, and their columns."""
        found = mapped(self.path(shard))
        columns = found[_VALUES], found[_ROWS], found[_INDPTR]
        return found[_ITEMS], csc_matrix(columns, shape=(n_items, len(found[_ITEMS])))


def _items(block: Block) -> Rows:
    if isinstance(block, slice):
        return np.arange(block.start, block.stop)
    return np.concatenate(block).astype(np.int64)
