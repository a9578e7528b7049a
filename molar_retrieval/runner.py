"""Work that is cut into shards, and who does it: this process, or several beside it.

A shard is a pure function of files and settings that writes one file, which appears under its name when it is whole. So
it does not matter who wrote which, and a run that was killed anywhere goes on with the shards that are missing.
"""

import os
import signal
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence, Sized
from concurrent.futures import Future, as_completed
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeAlias
from uuid import uuid4

from molar_retrieval.errors import BackendError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workers import WorkerDied, Workers, remedy

_BARREN = 3
"""Times in a row that processes are killed before a shard is made: then it is no accident."""
_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
"""What a library reads when it is loaded."""


class Shard(NamedTuple):
    """One piece of a work; ``size`` is in units of its progress, ``given`` is small and what it alone needs."""

    number: int
    size: int = 1
    given: Any = None


ShardWork = Callable[[Shard], Sequence[str]]
"""Writes the file of a shard, by :func:`appearing`; returns notes for whoever reads the result."""
_Done: TypeAlias = tuple[Shard, Sequence[str]]


class ShardJob(Protocol):
    """What the shards of a work have in common. It is frozen, it is pickled, and its paths are absolute."""

    @property
    def task(self) -> str:
        """What the progress calls it."""

    @property
    def gpu(self) -> bool:
        """Whether a worker takes a GPU, where there are any."""

    def path(self, shard: int) -> Path:
        """The file of a shard."""

    def is_whole(self, shard: int) -> bool:
        """Whether the file of a shard is there, and can be read."""

    def opened(self) -> AbstractContextManager[ShardWork]:
        """What a worker needs, opened once for all of its shards."""


@dataclass(frozen=True)
class ShardReport:
    """How a work was done: in how many shards, how many of which were made now, and the notes of these."""

    shards: int
    made: int
    notes: tuple[str, ...] = ()


class Runner(ABC):
    """Who does the shards of a work."""

    def run(self, job: ShardJob, shards: Sequence[Shard], progress: Progress = SILENT) -> ShardReport:
        """Make the shards that are missing; an error of a shard ends the run, and keeps those that are done."""
        missing = [shard for shard in shards if not job.is_whole(shard.number)]
        chosen = self.for_work(job.task, sum(shard.size for shard in missing), progress)
        notes: dict[str, None] = {}
        if missing and (kept := len(shards) - len(missing)):
            progress.note(f"going on with an interrupted run: {kept:,} of {len(shards):,} shards are there")
        progress.start(job.task, sum(shard.size for shard in shards))
        progress.advance(sum(shard.size for shard in shards) - sum(shard.size for shard in missing))
        if missing:
            with closing(chosen._made(job, missing, progress)) as made:
                for shard, told in made:
                    notes |= dict.fromkeys(told)
                    progress.advance(shard.size)
        progress.finish()
        return ShardReport(len(shards), len(missing), tuple(notes))

    def for_work(self, task: str, units: int, progress: Progress) -> "Runner":
        """Who does a work of so many units of its progress, which is told where there was a choice."""
        return self

    @abstractmethod
    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        """Make some shards; yields each that is done, in any order, with its notes."""


class InThisProcess(Runner):
    """One shard after the other."""

    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        with job.opened() as work:
            for shard in missing:
                yield shard, work(shard)


class InProcesses(Runner):
    """Processes of this machine, at most ``count``, each with one thread; one shard, or one process, needs none.

    Where one of them is killed, the others end too, and new ones do what is left, until nothing comes of it three times
    in a row. With ``here`` this process is one of them, which is for work whose process has started already: where it
    is killed, the run is.
    """

    def __init__(self, count: int, *, here: bool = False) -> None:
        self._count, self._here = count, here

    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        if self._count <= 1 or len(missing) <= 1:
            yield from InThisProcess()._made(job, missing, progress)
            return
        left = {shard.number: shard for shard in missing}
        barren = 0
        while left:
            before = len(left)
            count, by = min(self._count, before), _by_this_one_too if self._here and before > 1 else _by_others
            try:
                for shard, notes in by(count, job, list(left.values())):
                    del left[shard.number]
                    yield shard, notes
            except WorkerDied as error:
                barren = barren + 1 if len(left) == before else 0
                if barren == _BARREN:
                    raise ended_at(job, left, error.signal) from error


def _by_others(count: int, job: ShardJob, shards: Sequence[Shard]) -> Generator[_Done]:
    with Workers(count, _begin, job) as pool:
        for future in as_completed([pool.submit(_work, shard) for shard in shards]):
            yield future.result()


def _by_this_one_too(count: int, job: ShardJob, shards: Sequence[Shard]) -> Generator[_Done]:
    """The others begin with the first shards, this process with the last; a shard is given out when it is begun."""
    waiting, done = deque(shards), SimpleQueue[Future[_Done]]()

    def give(former: Future[_Done] | None = None) -> None:
        if former is not None:
            done.put(former)
            if former.cancelled() or former.exception() is not None:
                return
        shard = _next(waiting.popleft)
        if shard is not None:
            try:
                future = pool.submit(_work, shard)
            except RuntimeError as error:  # the processes ended meanwhile
                future = Future()
                future.set_exception(error)
            future.add_done_callback(give)

    from threadpoolctl import threadpool_limits

    limited = threadpool_limits(1)  # as many processes as cores work already
    with limited, Workers(count - 1, _begin, job) as pool, job.opened() as work:
        try:
            for _ in range(count - 1):
                give()
            made = 0
            while made < len(shards):
                own = _next(waiting.pop)
                if own is not None:
                    yield own, work(own)
                    made += 1
                while made < len(shards) and (own is None or not done.empty()):
                    yield done.get().result()
                    made += 1
        finally:
            waiting.clear()


def _next(taken: Callable[[], Shard]) -> Shard | None:
    try:
        return taken()
    except IndexError:  # another thread may have been faster
        return None


def ended_at(job: ShardJob, left: Sized, ended_by: signal.Signals | None = None) -> BackendError:
    """The error that workers end, by a signal or not, one after the other, without a shard being made."""
    by = "" if ended_by is None else f" by {ended_by.name} ({signal.strsignal(ended_by)})"
    again = "then run the same command again; what is done is kept"
    own = "A job class of your own must be in a module, not in the script that is run"
    return BackendError(
        f"{job.task}: workers end{by} before they have made any of the shards that are left ({len(left):,})",
        f"often memory is short: use fewer processes, {again}. {own}"
        if ended_by is None
        else f"{remedy(ended_by)}; {again}",
    )


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A file to write, which gets the name ``path`` where the block ends well; nobody else writes this one."""
    partial = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class WorkingProcess:
    """A process that works at one job, beside others of its kind; what the job has opened is closed by its end."""

    def __init__(self, job: ShardJob) -> None:
        from threadpoolctl import threadpool_limits

        from molar_retrieval.native import keep_freed_memory

        keep_freed_memory()
        threadpool_limits(1)  # as many processes as cores work already
        os.environ |= dict.fromkeys(_THREADS, "1")  # of libraries that the job loads later
        self._open = ExitStack()
        self.work = self._open.enter_context(job.opened())


_this: list[WorkingProcess] = []
"""What this process is, if it is one of a pool."""


def _begin(job: ShardJob) -> None:
    _this.append(WorkingProcess(job))


def _work(shard: Shard) -> tuple[Shard, Sequence[str]]:
    return shard, _this[-1].work(shard)
