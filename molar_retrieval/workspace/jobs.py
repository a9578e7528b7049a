"""Work that is cut into shards, and its runners: this process, or several beside it.

A shard is a pure function of files and settings that writes one file, which appears under its name when it is whole. So
any runner makes the same files, and a killed run goes on with the missing shards.

Processes end with this one. Unlike spawned processes of Python they do not import the script that is run, so a script
needs no ``if __name__ == "__main__":``; its own functions are unknown in them.
"""

import ctypes
import os
import pickle
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence, Sized
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process, spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from molar_retrieval.errors import BackendError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.threads import tell_crashes

_PR_SET_PDEATHSIG = 1
_PATIENCE = 1.0  # seconds until the system has told how a process ended
_CRASHES = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"}
_MEMORY = "memory was probably short: use fewer processes or a machine with more memory"
_LIBRARY = (
    "a native library crashed: run with OPENBLAS_CORETYPE=Haswell (x86-64) or OMP_NUM_THREADS=1 in the environment, "
    "and report it with the output of `molar doctor --versions`"
)

_MAIN = "init_main_from_path", "init_main_from_name"  # what a spawned process is told of the program to import
_starting = threading.Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that this thread spawns meanwhile do not import the program; those of other threads do, as ever."""
    with _starting:
        prepare, ours = spawn.get_preparation_data, threading.get_ident()

        def prepare_without_main(name: str) -> dict[str, Any]:
            told: dict[str, Any] = prepare(name)
            hidden = _MAIN if threading.get_ident() == ours else ()
            return {key: value for key, value in told.items() if key not in hidden}

        spawn.get_preparation_data = prepare_without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = prepare


class IsolatedProcess(SpawnProcess):
    """A process in a fresh interpreter that does not import the program that started it."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 (the hook of multiprocessing)
        with _without_main():
            return SpawnProcess._Popen(process_obj)


class IsolatedContext(SpawnContext):
    """The multiprocessing context of :class:`IsolatedProcess`: all processes of molar are started by it."""

    Process = IsolatedProcess


class WorkerDied(BrokenProcessPool):
    """A process of :class:`Workers` ended before its work was done.

    Attributes:
        signal: The signal that ended it; None: none did, or it is not known.
    """

    def __init__(self, ended_by: signal.Signals | None) -> None:
        super().__init__(f"a worker process {'ended' if ended_by is None else f'was ended by {ended_by.name}'}")
        self.signal = ended_by


def remedy(ended_by: signal.Signals | None) -> str:
    """What to do about a process that a signal ended; None: it is not known which."""
    if ended_by is None:
        return f"if it was SIGKILL, {_MEMORY}; if it was a segmentation fault, {_LIBRARY}"
    return _LIBRARY if ended_by.name in _CRASHES else _MEMORY if ended_by.name == "SIGKILL" else "somebody ended it"


class Workers(ProcessPoolExecutor):
    """A pool of processes; use it in a ``with`` block, which ends them at once where it is left by an error.

    Each is a fresh interpreter: threads of this process must not be copied in the middle of something. Ctrl-C does not
    reach them; they are ended by this process, or by its end. ``begin`` is called in each of them before any task.
    Where one of them dies, the block ends by :class:`WorkerDied`.
    """

    def __init__(self, count: int, begin: Callable[..., None], *arguments: Any) -> None:
        by_main = threading.current_thread() is threading.main_thread()
        super().__init__(count, IsolatedContext(), begin_watching, (packed(begin, *arguments), by_main))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the processes: after what was submitted, or now."""
        if isinstance(error, BrokenProcessPool):
            ended_by = self._signal()
            self.end()
            raise WorkerDied(ended_by) from error
        if kind is not None:
            self.end()
        self.shutdown(wait=True, cancel_futures=True)

    def _signal(self) -> signal.Signals | None:
        """The signal that ended one of the processes; the pool has ended the others by SIGTERM."""
        processes, until = list((self._processes or {}).values()), time.monotonic() + _PATIENCE
        while True:
            codes = [process.exitcode for process in processes]
            found = [signal.Signals(-code) for code in codes if code is not None and code < 0]
            first = [one for one in found if one is not signal.SIGTERM]
            if first or None not in codes or time.monotonic() > until:
                return next(iter(first or found), None)
            time.sleep(0.01)

    def end(self) -> None:
        """End the processes now, whatever they are at."""
        for process in list((self._processes or {}).values()):
            process.kill()
        self.shutdown(wait=True, cancel_futures=True)


def end_with_parent(*, by_main: bool) -> None:
    """Let this process end with the one that started it, by its main thread or by another, and not by Ctrl-C."""

    def end() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    if by_main and sys.platform == "linux":  # at once, and in the middle of a library; counts from the parent's thread
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def packed(work: Callable[..., None], *arguments: Any) -> bytes:
    """What a process is to do, for :func:`begin_watching`: unpacking it may import for seconds."""
    return pickle.dumps((work, arguments))


def begin_watching(work: bytes, by_main: bool, *more: Any) -> None:
    """Do what is ``packed``, with ``more`` arguments, in a process that ends with its parent from here on."""
    end_with_parent(by_main=by_main)
    tell_crashes()
    function, arguments = pickle.loads(work)
    function(*arguments, *more)


_BARREN = 3  # times in a row that processes are killed before a shard is made: then it is no accident
_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"  # what a library reads when it is loaded


class Shard(NamedTuple):
    """One piece of a work; ``size`` is in units of its progress, ``given`` is small and what it alone needs."""

    number: int
    size: int = 1
    given: Any = None


ShardWork = Callable[[Shard], Sequence[str]]
"""Writes the file of a shard, by :func:`atomic_file`; returns notes for whoever reads the result."""
MadeShards = Generator[tuple[Shard, Sequence[str]]]
"""Shards that are done, in any order, with their notes."""


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
        notes: dict[str, None] = {}
        if missing and (kept := len(shards) - len(missing)):
            progress.note(f"going on with an interrupted run: {kept:,} of {len(shards):,} shards are there")
        progress.start(job.task, sum(shard.size for shard in shards))
        progress.advance(sum(shard.size for shard in shards) - sum(shard.size for shard in missing))
        if missing:
            with closing(self._made(job, missing, progress)) as made:
                for shard, told in made:
                    notes |= dict.fromkeys(told)
                    progress.advance(shard.size)
        progress.finish()
        return ShardReport(len(shards), len(missing), tuple(notes))

    @abstractmethod
    def _made(self, job: ShardJob, missing: Sequence[Shard], progress: Progress) -> MadeShards:
        """Make some shards."""


class SerialRunner(Runner):
    """One shard after the other."""

    def _made(self, job: ShardJob, missing: Sequence[Shard], progress: Progress) -> MadeShards:
        with job.opened() as work:
            for shard in missing:
                yield shard, work(shard)


class ProcessRunner(Runner):
    """Processes of this machine, at most ``count``, each with one thread; one shard, or one process, needs none.

    Where one of them is killed, the others end too, and new ones do what is left, until nothing comes of it three times
    in a row.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def _made(self, job: ShardJob, missing: Sequence[Shard], progress: Progress) -> MadeShards:
        if self._count <= 1 or len(missing) <= 1:
            yield from SerialRunner()._made(job, missing, progress)
            return
        left = {shard.number: shard for shard in missing}
        barren = 0
        while left:
            before = len(left)
            try:
                with Workers(min(self._count, before), _begin, job) as pool:
                    for future in as_completed([pool.submit(_work, shard) for shard in left.values()]):
                        shard, notes = future.result()
                        del left[shard.number]
                        yield shard, notes
            except WorkerDied as error:
                barren = barren + 1 if len(left) == before else 0
                if barren == _BARREN:
                    raise ended_at(job, left, error.signal) from error


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
def atomic_file(path: Path) -> Iterator[Path]:
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

        from molar_retrieval.workspace.threads import keep_freed_memory

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
