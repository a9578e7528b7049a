"""Several processes that answer on one socket, kept alive by one that does nothing else."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from molar_retrieval.workspace.jobs import IsolatedProcess, begin_watching, packed

_AGAIN = 1.0  # seconds between a worker that died as soon as it was started, and the next one
_log = logging.getLogger("molar.serving")


class Supervisor:
    """Starts workers, replaces those that die, and ends them in order at SIGTERM or Ctrl-C; at the second one at once.

    A worker ends with its parent, from before it imports anything of weight; at SIGTERM it must end in order by itself.

    Args:
        count: How many.
        work: What each of them runs, with ``arguments`` and the socket; it is imported there.
        arguments: What else can be pickled.
        listening: The socket on which they answer; it is closed here as soon as they are told to end.
        ending: Seconds that they have for that.
        died: Called with the process id of each that died.
    """

    def __init__(
        self,
        count: int,
        work: Callable[..., None],
        arguments: tuple[Any, ...],
        listening: socket.socket,
        ending: float,
        died: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._work, self._listening, self._ending = packed(work, *arguments), listening, ending
        self._count, self._died = count, died
        self._running: dict[IsolatedProcess, float] = {}
        self._over = False
        self._woken, self._wake = socket.socketpair()

    def run(self) -> None:
        """Keep them running."""
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._over:
                while len(self._running) < self._count:
                    self._start()
                wait([self._woken, *(process.sentinel for process in self._running)])
                self._replace()
            self._listening.close()
            for process in self._running:
                process.terminate()
            self._join()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> None:
        process = IsolatedProcess(target=begin_watching, args=(self._work, True, self._listening))
        process.start()
        self._running[process] = time.monotonic()

    def _replace(self) -> None:
        for process, began in list(self._running.items()):
            if process.is_alive() or self._over:
                continue
            del self._running[process]
            self._died(process.pid or 0)
            _log.warning("worker %d died (%s) and is replaced", process.pid, process.exitcode)
            if time.monotonic() - began < _AGAIN:
                wait([self._woken], _AGAIN)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            for process in self._running:
                process.kill()
            os._exit(128 + number)
        self._over = True
        self._wake.send(b"!")

    def _join(self) -> None:
        end = time.monotonic() + self._ending
        for process in self._running:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
