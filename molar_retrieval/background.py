"""Background threads of a process that serves: one that dies is logged, counted and started again.

While a thread is down, :func:`threads_down` names it, so that a health check can tell.
"""

import logging
import threading
import time
from collections.abc import Callable
from weakref import WeakSet

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before a thread that died is started again
_log = logging.getLogger("molar.threads")
_lock = threading.Lock()
_started: "WeakSet[BackgroundThread]" = WeakSet()
_listeners: list[Callable[[str], None]] = []


class BackgroundThread:
    """A thread that is started again whenever its work raises an exception, after a pause that doubles up to 30 s.

    Args:
        name: What it is called in logs, metrics and the health check.
        work: What it does. When it returns, the thread ends for good; when it raises, it is called again.

    Attributes:
        name: As above.
        problem: Why it is down, until it is started again; None: it works, or has ended.
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
    with _lock:
        _listeners.append(listener)

    def end() -> None:
        with _lock:
            _listeners.remove(listener)

    return end


def _tell(name: str) -> None:
    with _lock:
        listeners = list(_listeners)
    for listener in listeners:
        try:
            listener(name)
        except Exception:  # the thread must be started again nevertheless
            _log.exception("the death of the thread %s could not be counted", name)
