"""What is written down of experiments: gathered in memory, written by a thread, so that no answer waits for a disk.

What a process had not written when it was killed is lost: a tenth of a second of assignments, a second of counts.
Whoever was assigned in it gets the same arm again, as a hash says so; whose lists differed is told by their next one.
"""

import logging
import os
import queue
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from molar_retrieval.errors import MolarError
from molar_retrieval.experiments.records import EDGES, Assignment, ServedRow, ShadowRow
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.threads import BackgroundThread

_WAITING = 32
_log = logging.getLogger("molar.experiments")
_BATCH = 0.1  # seconds in which rows gather
_COUNTS = 1.0  # seconds in which counts of answers do
_AGAIN = 5.0  # seconds until a file that cannot be written is tried again
_KEPT = 60  # minutes whose counts may go on, as clocks are set back by less
_MOST = 100_000  # rows that wait to be written
MINUTE = 60_000_000  # microseconds


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


@dataclass
class _Minute:
    """Answers of an arm in a minute so far."""

    answers: int = 0
    errors: int = 0
    empty: int = 0
    late: int = 0
    milliseconds: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))


@dataclass
class _Rows:
    """Rows of one experiment that wait."""

    assignments: dict[str, Assignment] = field(default_factory=dict)
    triggers: dict[str, int] = field(default_factory=dict)
    both: set[str] = field(default_factory=set)
    lists: list[tuple[str, str, int, Mapping[str, Any]]] = field(default_factory=list)
    shadows: list[ShadowRow] = field(default_factory=list)

    def __len__(self) -> int:
        lists = len(self.lists) + len(self.shadows)
        return len(self.assignments) + len(self.triggers) + len(self.both) + lists


class ExperimentRecorder:
    """Writes what comes about experiments, in batches; threads may share it, and processes the store.

    Attributes:
        problem: Why nothing can be written, while rows wait; None: all is well.
        dropped: Rows that were given up, because too many waited.
    """

    def __init__(self, store: ExperimentStore) -> None:
        self._store = store
        self._process = f"{os.getpid()}-{time.time_ns():x}"
        self._rows: defaultdict[str, _Rows] = defaultdict(_Rows)
        self._minutes: dict[tuple[str, str, int], _Minute] = {}
        self._changed: set[tuple[str, str, int]] = set()
        self.problem: MolarError | None = None
        self.dropped = 0
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._came, self._ended = threading.Event(), threading.Event()
        self._thread = BackgroundThread("experiment rows", self._run)

    def start(self) -> None:
        """Write in the background from now on."""
        self._thread.start()

    def assign(self, row: Assignment) -> None:
        """That somebody has an arm; the first row of a unit counts."""
        self._add(row.experiment, lambda rows: rows.assignments.setdefault(row.unit, row))

    def trigger(self, name: str, unit: str, at: int) -> None:
        """That somebody was shown what the other arm would not have shown; the first time counts."""
        self._add(name, lambda rows: rows.triggers.setdefault(unit, at))

    def met_other(self, name: str, unit: str) -> None:
        """That somebody was shown both arms."""
        self._add(name, lambda rows: rows.both.add(unit))

    def interleaved(self, name: str, request_id: str, unit: str, at: int, teams: Mapping[str, Any]) -> None:
        """A list of both arms, and by item whose place it was."""
        self._add(name, lambda rows: rows.lists.append((request_id, unit, at, teams)))

    def shadow(self, name: str, row: ShadowRow) -> None:
        """A request that both arms ranked while nobody saw the treatment."""
        self._add(name, lambda rows: rows.shadows.append(row))

    def served(
        self, name: str, arm: str, at: int, milliseconds: float, *, error: bool, empty: bool, late: bool
    ) -> None:
        """An answer of an arm."""
        key = name, arm, at // MINUTE
        with self._lock:
            minute = self._minutes.setdefault(key, _Minute())
            minute.answers += 1
            minute.errors += error
            minute.empty += empty
            minute.late += late
            minute.milliseconds[bisect_left(EDGES, milliseconds)] += 1
            self._changed.add(key)
        self._wake()

    def flush(self, *, counted: bool = True) -> None:
        """Write all that waits, and counts of answers; what cannot be goes on waiting, and :attr:`problem` says why."""
        with self._writing:
            with self._lock:
                waiting, self._rows = self._rows, defaultdict(_Rows)
                changed, self._changed = (self._changed, set()) if counted else (set(), self._changed)
                counts = {key: self._row(key) for key in changed}
            try:
                for name, rows in list(waiting.items()):
                    self._write(name, rows)
                    del waiting[name]
                for name in {key[0] for key in counts}:
                    own = [key for key in counts if key[0] == name]
                    self._store.record_served(name, self._process, [counts[key] for key in own])
                    counts = {key: row for key, row in counts.items() if key[0] != name}
            except MolarError as error:
                self._failed(error, waiting, counts)
                return
            except Exception:  # a row that cannot be written must not keep all later ones from being written
                self.dropped += sum(map(len, waiting.values()))
                raise
            self.problem = None
            self._forget({minute for *_, minute in changed})

    def close(self) -> None:
        """Write what waits, and end."""
        self._ended.set()
        self._came.set()
        self._thread.join()
        self.flush()

    def _add(self, name: str, how: Callable[[_Rows], object]) -> None:
        with self._lock:
            rows = self._rows[name]
            if len(rows) >= _MOST:
                self.dropped += 1
                return
            how(rows)
        self._wake()

    def _wake(self) -> None:
        if not self._came.is_set():  # waking the thread costs more than all else here
            self._came.set()

    def _run(self) -> None:
        counted = time.monotonic()
        while not self._ended.is_set():
            self._came.wait(_COUNTS if self._changed else None)
            self._ended.wait(_BATCH if self.problem is None else _AGAIN)
            self._came.clear()
            if due := time.monotonic() >= counted + _COUNTS:
                counted = time.monotonic()
            self.flush(counted=due)

    def _write(self, name: str, rows: _Rows) -> None:
        self._store.assign(rows.assignments.values())
        self._store.trigger(name, rows.triggers.items())
        self._store.met_other(name, rows.both)
        self._store.record_lists(name, rows.lists)
        if rows.shadows:
            self._store.record_shadows(name, rows.shadows)

    def _row(self, key: tuple[str, str, int]) -> ServedRow:
        one = self._minutes[key]
        return ServedRow(key[1], key[2], one.answers, one.errors, one.empty, one.late, tuple(one.milliseconds))

    def _forget(self, minutes: set[int]) -> None:
        """Counts of minutes that are long over."""
        if not minutes:
            return
        oldest = max(minutes) - _KEPT
        with self._lock:
            for key in [one for one in self._minutes if one[2] < oldest and one not in self._changed]:
                del self._minutes[key]

    def _failed(self, error: MolarError, waiting: Mapping[str, _Rows], counts: Mapping[Any, ServedRow]) -> None:
        """Let what was not written wait on."""
        if self.problem is None:
            _log.warning("what experiments show is kept in memory: %s", error.message)
        self.problem = error
        with self._lock:
            for name, old in waiting.items():
                new = self._rows[name]
                new.assignments = old.assignments | {
                    u: a for u, a in new.assignments.items() if u not in old.assignments
                }
                new.triggers = {**new.triggers, **old.triggers}
                new.both |= old.both
                new.lists[:0], new.shadows[:0] = old.lists, old.shadows
            self._changed |= counts.keys() & self._minutes.keys()
        self._wake()
