"""Threads of this process: pieces of work in several, background threads that are started again, native libraries.

NumPy, SciPy and BLAS let other threads run while they compute. While a background thread of a server is down,
:func:`threads_down` names it, so that a health check can tell.
"""

import ctypes
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from threadpoolctl import LibController

T = TypeVar("T")
R = TypeVar("R")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE = 1 << 30


def limit_spinning() -> None:
    """Let OpenMP's threads spin only briefly before they sleep, unless the environment says otherwise.

    GNU OpenMP spins for long, and as soon as another process uses a core training becomes several times slower. The
    variable is read when the library is loaded, so commands call this first.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def tell_crashes() -> None:
    """Let this process write its Python frames to standard error where a native library crashes."""
    if not faulthandler.is_enabled():
        with suppress(AttributeError, OSError, RuntimeError, ValueError):  # there is no standard error
            faulthandler.enable()


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, up to 1 GiB, instead of handing it back to the system at once.

    A step of training frees hundreds of megabytes and asks for them again; each time the system has to map and zero
    them, which may take as long as the step itself. Only glibc can be told (True); elsewhere nothing happens.
    """
    adjust = _of_glibc("mallopt")
    return bool(adjust and adjust(_MMAP_THRESHOLD, _LARGE) and adjust(_TRIM_THRESHOLD, _LARGE))


def give_freed_memory_back() -> bool:
    """Hand what is freed back to the system, for work that needs its memory elsewhere next.

    Of many small pieces that are freed the C library keeps the pages between those that are not. Only glibc can be
    told (True); elsewhere nothing happens.
    """
    trim = _of_glibc("malloc_trim")
    return trim is not None and trim(0) >= 0


def _of_glibc(name: str) -> Callable[..., int] | None:
    with suppress(AttributeError, OSError, TypeError):
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
        return found
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Products of matrices by one thread each, then by as many as before; some microseconds.

    What an answer multiplies is so small that a second thread gains nothing, and where its core is busy it is waited
    for many times longer than the product takes. OpenBLAS hears of it in the main thread alone, so elsewhere nothing
    happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loaded = _blas() if "numpy.linalg" in sys.modules else []
    several = [(one, count) for one in loaded if (count := one.num_threads) != 1]
    for one, _ in several:
        one.set_num_threads(1)
    try:
        yield
    finally:
        for one, count in several:
            one.set_num_threads(count)


@cache
def _blas() -> "list[LibController]":
    """The libraries of BLAS that are loaded."""
    from threadpoolctl import ThreadpoolController  # finds out what is loaded, a millisecond

    found: list[LibController] = ThreadpoolController().select(user_api="blas").lib_controllers
    return found


def allowed() -> int:
    """As many as BLAS may use now, at least one."""
    from threadpoolctl import threadpool_info

    return max([1, *(int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas")])


def each(work: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
    """What ``work`` makes of the pieces, in their order, by as many threads as are :func:`allowed`.

    Results are held until they are asked for, so they should be small, or be kept anyway.
    """
    pieces = list(pieces)
    count = min(len(pieces), allowed())
    if count < 2:
        yield from map(work, pieces)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count) as pool:
        yield from pool.map(work, pieces)


_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before a thread that died is started again
_log = logging.getLogger("molar.threads")
_lock = threading.Lock()
_started: "WeakSet[BackgroundThread]" = WeakSet()
_listeners: list[Callable[[str], None]] = []


class BackgroundThread:
    """A thread that is started again whenever its work raises an exception, after a pause that doubles up to 30 s.

    When its work returns, it ends for good. ``name`` is what logs, metrics and the health check call it; ``problem``
    why it is down, until it is started again, else None.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name, self._work = name, work
        self.problem: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._thread.ident is not None

    @property
    def alive(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive() and self.problem is None

    def start(self) -> None:
        """Begin."""
        with _lock:
            _started.add(self)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, after its work was told to end; it is not started again."""
        self._ended.set()
        if self.started:
            self._thread.join()
        with _lock:
            _started.discard(self)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                self._work()
                return
            except BaseException as error:  # also SystemExit: whatever ends the work, somebody relies on it
                _log.exception("the thread %s died and is started again", self.name)
                self.problem = f"{type(error).__name__} in the background thread {self.name}"
            _tell(self.name)
            pause = _FIRST_PAUSE if time.monotonic() - began > _LONGEST_PAUSE else pause
            if self._ended.wait(pause):
                return
            pause = min(2 * pause, _LONGEST_PAUSE)
            self.problem = None


def threads_down() -> list[str]:
    """Names of the threads of this process that died and were not started again yet."""
    with _lock:
        return sorted({one.name for one in _started if one.problem is not None})


def on_death(listener: Callable[[str], None]) -> Callable[[], None]:
    """Have a function called with the name of each thread that dies; call what is returned to end that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def _tell(name: str) -> None:
    for listener in [*_listeners]:
        try:
            listener(name)
        except Exception:  # the thread must be started again nevertheless
            _log.exception("the death of the thread %s could not be counted", name)
