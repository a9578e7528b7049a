"""How much was answered from a workspace and what that took, in ``WORKSPACE/serving/served.jsonl``.

Each process that answers writes a line every ten minutes, and one as it ends: an answer costs what the machine costs
while it is up. Nothing depends on the log: where it cannot be written, answers come all the same.
"""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from molar_retrieval.background import BackgroundThread
from molar_retrieval.errors import MolarError
from molar_retrieval.json_lines import JsonLines

FILE = "serving/served.jsonl"
_BYTES, _OLDER, _MOST = 1 << 20, 4, 100_000
_EVERY = 600.0  # seconds between two lines


class ServedLog:
    """What one process answers; open until :meth:`close`.

    Args:
        workspace: From which it answers.
        processes: How many answer together on this machine.
        every: Seconds between two lines.
    """

    def __init__(self, workspace: Path, processes: int, every: float = _EVERY) -> None:
        self._lines = JsonLines(workspace / FILE, most=_BYTES, kept=_OLDER)
        self._processes, self._every = processes, every
        self._answers, self._told = 0, 0
        self._clock, self._processor = time.monotonic(), time.process_time()
        self._ended = threading.Event()
        self._thread = BackgroundThread("served", self._run)

    def start(self) -> None:
        """Count the time from now on."""
        self._clock, self._processor = time.monotonic(), time.process_time()
        self._thread.start()

    def answered(self) -> None:
        """Count an answer; one thread does so."""
        self._answers += 1

    def close(self) -> None:
        """Write down the rest."""
        self._ended.set()
        self._thread.join()
        if self._thread.started:
            self._write()
        self._lines.close()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._write()

    def _write(self) -> None:
        answers, clock, processor = self._answers, time.monotonic(), time.process_time()
        line = {
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(clock - self._clock, 3),
            "processor": round(processor - self._processor, 3),
            "answers": answers - self._told,
            "processes": self._processes,
            "cores": os.cpu_count() or 1,
        }
        with suppress(MolarError):
            self._lines.append(line)
            self._told, self._clock, self._processor = answers, clock, processor


@dataclass(frozen=True)
class ServedInAll:
    """What was answered since the oldest line of a workspace's log.

    Attributes:
        since: When that was written, in ISO 8601.
        answers: Lists, searches and the like that were answered.
        up: Seconds for which a machine was up to answer; two machines count twice.
        busy: Seconds that a machine would have taken with all of its cores at work.
    """

    since: str
    answers: int
    up: float
    busy: float


def served_in_all(workspace: Path) -> ServedInAll | None:
    """What was answered from a workspace, given its folder; None where nobody served it yet."""
    lines = JsonLines(workspace / FILE, kept=_OLDER).newest(_MOST)
    if not lines:
        return None
    return ServedInAll(
        since=str(lines[-1]["ended"]),
        answers=sum(line["answers"] for line in lines),
        up=sum(line["seconds"] / line["processes"] for line in lines),
        busy=sum(line["processor"] / line["cores"] for line in lines),
    )
