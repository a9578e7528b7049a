"""Lists that nobody waits for, made by a thread of their own: few of them wait, and what comes beyond is dropped."""

import logging
import queue
from collections.abc import Callable

from molar_retrieval.workspace.threads import BackgroundThread

_WAITING = 32
_log = logging.getLogger("molar.experiments")


class BackgroundLists:
    """Makes lists in the background, or at once where there is no background.

    Args:
        background: Whether there is.
        dropping: Called for each that is not made, because too many wait.
    """

    def __init__(self, *, background: bool, dropping: Callable[[], None] = lambda: None) -> None:
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._dropping = dropping
        self._thread = BackgroundThread("counterfactual", self._run) if background else None

    def start(self) -> None:
        """Begin to make them."""
        if self._thread is not None:
            self._thread.start()

    def do(self, work: Callable[[], None]) -> bool:
        """Have something done; False where it is dropped."""
        if self._thread is None:
            work()
            return True
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            self._dropping()
            return False
        return True

    def wait(self) -> None:
        """Return once all that waits is done."""
        if self._thread is not None and self._thread.alive:
            self._waiting.join()

    def close(self) -> None:
        """Make what waits, and end."""
        if self._thread is not None and self._thread.started:
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                if work is None:
                    return
                work()
            except Exception:  # nobody waits for it, and the next one may be made
                _log.exception("a list of the other arm could not be compared")
            finally:
                self._waiting.task_done()
