"""Which arm somebody is in, and the record of exposures.

What a process had not written when it was killed is lost: a tenth of a second of assignments, a second of counts.
Whoever was assigned in it gets the same arm again, as a hash says so; whose lists differed is told by their next one.

What is on record stays, whatever becomes of the stage, so that nobody flips. Somebody anonymous who turns out to be a
user gives this user their arm, if there is none of the user's own; who had both arms is marked, and counts for neither.
"""

import logging
import os
import queue
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from molar_eval.experiments.arms import LiveExperiment
from molar_retrieval.data.live_events import EventLogReader
from molar_retrieval.errors import MolarError
from molar_retrieval.experiments.assignment import arm_of, arm_of_block, block_of, held_out, takes_part
from molar_retrieval.experiments.definition import (
    ARMS,
    CONTROL,
    EVERYBODY,
    INTERLEAVED,
    INTERLEAVING,
    SHADOW,
    TREATMENT,
    Experiment,
    Stage,
)
from molar_retrieval.experiments.records import EDGES, Assignment, ServedRow, ShadowRow
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName, of_key, session_key, user_key
from molar_retrieval.privacy.suppression import EVER, SuppressionList
from molar_retrieval.workspace.artefacts import Workspace
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


_REMEMBERED = 100_000  # people of each experiment whose arm is kept in memory
_LOOK = 60.0  # seconds until it is looked again whether somebody has come into a segment, or had other sessions


@dataclass(frozen=True)
class Asker:
    """Who asks for a list, and where it will be shown.

    Attributes:
        user_id: The user, where one is known.
        session_id: The anonymous session, which is the user's where both are named.
        placement: Where on the site.
        arms: By experiment, the arm that a service of the shop has assigned.
        recorded: Whether anything is written down: not of dry runs.
    """

    user_id: str | None = None
    session_id: str | None = None
    placement: str | None = None
    arms: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = True


@dataclass(frozen=True)
class PlacedPerson:
    """Somebody in an experiment: their ``arm``, or ``interleaved`` or ``shadow`` in stages that have none."""

    live: LiveExperiment
    unit: str
    arm: str


@dataclass(frozen=True)
class _Named:
    """Who asks, by what a workspace calls them; the rest is that of :class:`Asker`."""

    user: StoredName | None
    session: StoredName | None
    placement: str | None
    arms: Mapping[str, str]
    recorded: bool

    @classmethod
    def of(cls, asker: Asker, names: Pseudonymiser) -> Self:
        user = None if asker.user_id is None else names.user(asker.user_id)
        session = None if asker.session_id is None else names.session(asker.session_id)
        return cls(user, session, asker.placement, asker.arms, asker.recorded)


@dataclass
class _Known:
    arm: str | None
    stage: Stage
    looked: float  # on the clock of time.monotonic


class Placing:
    """Places people in the experiments that run; threads may share it.

    Args:
        workspace: Its event log says which sessions are which users.
        store: What is on record.
        recorder: Where assignments go.
        holdout: The share of the people who take part in none.
    """

    def __init__(
        self, workspace: Workspace, store: ExperimentStore, recorder: ExperimentRecorder, holdout: float
    ) -> None:
        self._store, self._recorder, self._holdout = store, recorder, holdout
        self._root, self._log = workspace.root, EventLogReader(workspace)
        self._known: dict[str, dict[str, _Known]] = {}
        self._users: dict[StoredName, StoredName] = {}  # of sessions that are known to be users
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the event log."""
        self._log.close()

    def place(self, running: Iterable[LiveExperiment], asker: Asker, at: int) -> PlacedPerson | None:
        """The first experiment that somebody is in at a moment (microseconds since 1970); None: they are in none.

        An answer is of one experiment. Those of one layer have different people; of two layers, which draw
        independently of each other, the first one that began has whoever is in both.
        """
        if SuppressionList.of(self._root).person(asker.user_id, asker.session_id) == EVER:
            return None
        named = _Named.of(asker, Pseudonymiser.of(self._root))
        key = self._key(named)
        for live in running:
            if not live.segment.at(named.placement):
                continue
            one = live.experiment
            if one.unit == "time" and live.stage not in (SHADOW, INTERLEAVING, EVERYBODY):
                return self._in_block(live, named, key, at)
            if key is not None and (arm := self._arm(live, key, named, at)) is not None:
                return PlacedPerson(live, key, arm)
        return None

    def _in_block(self, live: LiveExperiment, asker: _Named, key: str | None, at: int) -> PlacedPerson | None:
        if (key is not None and held_out(key, self._holdout)) or not self._inside(live, key):
            return None
        block, arm = block_of(live.experiment, at), arm_of_block(live.experiment, at)
        known = self._of(live.name)
        if asker.recorded and block not in known:
            self._remember(known, block, live, arm)
            self._recorder.assign(Assignment(live.name, block, arm, at))
        return PlacedPerson(live, block, arm)

    def _inside(self, live: LiveExperiment, key: str | None) -> bool:
        """Whether somebody is in the segment; the answer of the last minute is remembered."""
        if key is None or live.segment.everybody:
            return live.segment.has(key)
        known = self._of(f"{live.name}:segment")
        found = self._fresh(known, key, live)
        if found is None:
            found = self._remember(known, key, live, INTERLEAVED if live.segment.has(key) else None)
        return found.arm is not None

    def _arm(self, live: LiveExperiment, key: str, asker: _Named, at: int) -> str | None:
        told = self._told(live.experiment, asker)
        held = live.experiment.assigned == "here" and held_out(key, self._holdout)
        if live.stage == EVERYBODY:
            return told or self._among_all(live, key, asker, at, held=held)
        if held:
            return None
        if live.stage in (SHADOW, INTERLEAVING):
            inside = takes_part(live.experiment, key) and self._inside(live, key)
            return (INTERLEAVED if live.stage == INTERLEAVING else SHADOW) if inside else None
        return self._sticky(live, key, asker, at, told)

    def _among_all(self, live: LiveExperiment, key: str, asker: _Named, at: int, *, held: bool) -> str | None:
        """The treatment, for whoever is not held out."""
        arm, known = CONTROL if held else TREATMENT, self._of(f"{live.name}:{EVERYBODY}")
        found = self._fresh(known, key, live)
        if found is None:
            found = self._remember(known, key, live, arm if live.segment.has(key) else None)
            if found.arm is not None and asker.recorded:
                self._recorder.assign(Assignment(live.name, key, arm, at, "holdout" if held else "hash"))
        return found.arm

    def _sticky(self, live: LiveExperiment, key: str, asker: _Named, at: int, told: str | None) -> str | None:
        """The arm that is on record, or becomes so now."""
        known = self._of(live.name)
        found = self._fresh(known, key, live)
        if found is None or (found.arm is None and told is not None):
            found = self._looked(live, key, asker, at, known, told)
        if asker.user is not None and asker.session is not None and asker.recorded:
            of_session = known.get(session_key(asker.session))
            if of_session is not None and found.arm and of_session.arm not in (None, found.arm):
                self._met_both(live, key, session_key(asker.session))
        if told is not None and found.arm is not None and told != found.arm:
            if asker.recorded:
                self._recorder.met_other(live.name, key)
            return told  # who decides elsewhere knows what is shown
        return found.arm

    def _looked(
        self, live: LiveExperiment, key: str, asker: _Named, at: int, known: dict[str, _Known], told: str | None
    ) -> _Known:
        """The arm by the record, of somebody's own or of their sessions, else by whoever decides."""
        sessions = self._sessions(key, asker)
        recorded = self._store.assigned(live.name, [key, *sessions])
        for unit in (key, *sessions):  # what is about to be written
            if unit not in recorded and (one := known.get(unit)) is not None and one.arm is not None:
                recorded[unit] = one.arm
        arm, source = recorded.get(key), None
        if arm is None:
            arm, source = next((recorded[one] for one in sessions if one in recorded), None), "session"
        if arm is None:
            arm, source = self._drawn(live, key, told), "hash" if told is None else "elsewhere"
        if arm is not None and asker.recorded:
            if source is not None:
                self._recorder.assign(Assignment(live.name, key, arm, at, source))
            for session in [one for one in sessions if recorded.get(one, arm) != arm]:
                self._met_both(live, key, session)
        if arm is not None and not asker.recorded:
            return _Known(arm, live.stage, time.monotonic())
        return self._remember(known, key, live, arm)

    def _met_both(self, live: LiveExperiment, *units: str) -> None:
        """Have it written down that somebody saw both arms, as a user and as a session."""
        for unit in units:
            self._recorder.met_other(live.name, unit)

    @staticmethod
    def _drawn(live: LiveExperiment, key: str, told: str | None) -> str | None:
        """The arm of somebody who has none yet; None: they are not in the experiment."""
        one = live.experiment
        arm = told
        if one.assigned == "here" and takes_part(one, key):
            arm = arm_of(one, live.stage, key)
        return arm if arm is not None and live.segment.has(key) else None

    @staticmethod
    def _told(experiment: Experiment, asker: _Named) -> str | None:
        """The arm that a service of the shop says, where it decides."""
        told = asker.arms.get(experiment.name) if experiment.assigned == "elsewhere" else None
        return told if told in ARMS else None

    def _key(self, asker: _Named) -> str | None:
        """Who asks: a session that is known to be a user is that user."""
        if asker.user is not None:
            return user_key(asker.user)
        if (session := asker.session) is None:
            return None
        user = self._users.get(session)
        if user is None and self._log.mark is not None and (found := self._log.user_of(session, self._log.last)):
            user = self._users[session] = found[0]
            if len(self._users) > _REMEMBERED:
                self._users.pop(next(iter(self._users)), None)
            for known in list(self._known.values()):
                if (one := known.get(user_key(user))) is not None:
                    one.looked = float("-inf")  # the session may have had another arm
        return session_key(session) if user is None else user_key(user)

    def _sessions(self, key: str, asker: _Named) -> list[str]:
        """The keys of a user's sessions, the one that asks first."""
        kind, name = of_key(key)
        if kind != "user_id":
            return []
        own = [] if asker.session is None else [session_key(asker.session)]
        found = self._log.sessions_of(name, self._log.last) if self._log.mark is not None else []
        return list(dict.fromkeys([*own, *(session_key(session) for session, _ in found)]))

    def _of(self, name: str) -> dict[str, _Known]:
        return self._known.setdefault(name, {})

    @staticmethod
    def _fresh(known: dict[str, _Known], unit: str, live: LiveExperiment) -> _Known | None:
        """What is known of somebody, unless it is time to look again; who has no arm may get one in the next stage."""
        found = known.get(unit)
        if (
            found is None
            or found.looked + _LOOK < time.monotonic()
            or (found.arm is None and found.stage != live.stage)
        ):
            return None
        return found

    def _remember(self, known: dict[str, _Known], unit: str, live: LiveExperiment, arm: str | None) -> _Known:
        found = _Known(arm, live.stage, time.monotonic())
        with self._lock:
            known[unit] = found
            if len(known) > _REMEMBERED:
                known.pop(next(iter(known)))
        return found
