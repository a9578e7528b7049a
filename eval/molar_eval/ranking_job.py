"""Ranking many cases as a work in shards: a shard is some blocks of cases, its file their lists and ranks.

Only a model that lies in files can be asked elsewhere; one that lives in memory ranks where it was fitted. Shards begin
where blocks of :func:`molar_eval.ranking.rank` do, so lists are the same bytes whoever makes them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file, save_file

from molar_eval.cases import Cases, Seen
from molar_eval.models.base import EvaluationTask, ScorerFiles
from molar_eval.ranking import Ranked, block_height, rank
from molar_retrieval.data.interactions import of_tensors, to_tensors
from molar_retrieval.progress import Progress
from molar_retrieval.workspace.files import for_owner
from molar_retrieval.workspace.jobs import Runner, Shard, ShardWork, atomic_file
from molar_retrieval.workspace.tensors import TensorsWriter, mapped, under

SCORES = 1 << 28
"""Scores of a shard: some ten seconds of one processor."""
_INPUTS, _MODEL = "inputs.safetensors", "model"
_ARRAYS = ("user", "length", "offsets", "targets")


def shards_of(cases: int, n_items: int, memory: int) -> list[Shard]:
    """So many cases in shards of whole blocks, see :func:`molar_eval.ranking.block_height`."""
    block = block_height(n_items, memory)
    size = block * max(1, SCORES // (block * max(1, n_items)))
    ranges = [range(first, min(first + size, cases)) for first in range(0, cases, size)]
    return [Shard(number, len(one), one) for number, one in enumerate(ranges)]


@dataclass(frozen=True)
class RankingJob:
    """All that one model is asked in one test; ``folder`` has the inputs and the shards, and is this work's alone.

    Lists have length ``k``; ``memory`` are bytes for the scores of a block, in each worker.
    """

    folder: Path
    files: ScorerFiles
    n_items: int
    k: int
    seen: Seen
    memory: int
    task: str
    gpu: bool = False

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:08}.safetensors"

    def is_whole(self, shard: int) -> bool:
        """Whether the file is there, as long as it says."""
        try:
            return bool(mapped(self.path(shard)))
        except (OSError, ValueError):
            return False

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Open the model and the cases."""
        tensors = mapped(self._inputs)
        history, training = (of_tensors(under(tensors, whose), self.n_items) for whose in ("history.", "training."))
        cases = Cases(history, **{name: tensors[name] for name in _ARRAYS}, readable=tensors.get("readable"))
        with self.files.opened(training) as scorer:

            def work(shard: Shard) -> Sequence[str]:
                some = cases.between(shard.given.start, shard.given.stop)
                ranked = rank(
                    some, scorer.scores, k=self.k, candidates=tensors["candidates"], seen=self.seen,
                    finish=scorer.finish, memory=self.memory,
                )  # fmt: skip
                with atomic_file(self.path(shard.number)) as partial:
                    save_file(ranked.to_tensors(), partial)
                    for_owner(partial)
                return ()

            yield work

    def make(self, cases: Cases, task: EvaluationTask, runner: Runner, progress: Progress) -> Ranked:
        """Have all shards made that are missing; the lists and ranks of all cases."""
        if not self._inputs.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            tensors = {f"history.{name}": values for name, values in to_tensors(cases.history).items()}
            tensors |= {f"training.{name}": values for name, values in to_tensors(task.training).items()}
            tensors |= {name: getattr(cases, name) for name in _ARRAYS}
            tensors["candidates"] = cases.among(task.candidates)
            tensors |= {} if cases.readable is None else {"readable": cases.readable}
            with atomic_file(self._inputs) as partial:
                with TensorsWriter(partial) as writer:
                    for name, values in tensors.items():
                        writer.append(name, values)
                for_owner(partial)
        shards = shards_of(len(cases), self.n_items, self.memory)
        runner.run(self, shards, progress)
        return Ranked.joined([Ranked(**load_file(self.path(shard.number))) for shard in shards])

    @property
    def _inputs(self) -> Path:
        return self.folder / _INPUTS
