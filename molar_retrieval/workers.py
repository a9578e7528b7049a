"""Processes that work for this one, and that end with it, however it ends.

They do not import the script that is run, as spawned processes of Python do: a script needs no
``if __name__ == "__main__":`` to call what works in several processes. Its own functions are unknown in them.
"""

import ctypes
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import parent_process, spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType
from typing import Any

from molar_retrieval.native import tell_crashes

_PR_SET_PDEATHSIG = 1
_PATIENCE = 1.0  # seconds until the system has told how a process ended
_CRASHES = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"}
_MEMORY = "memory was probably short: use fewer processes or a machine with more memory"
_LIBRARY = (
    "a native library crashed: run with OPENBLAS_CORETYPE=Haswell (x86-64) or OMP_NUM_THREADS=1 in the environment, "
    "and report it with the output of `molar doctor --versions`"
)

_MAIN = "init_main_from_path", "init_main_from_name"
"""What a spawned process is told of the program to import."""
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
    threading.Thread(target=_end_with_parent, daemon=True).start()
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


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
