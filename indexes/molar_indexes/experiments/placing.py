"""Who is in which experiment, with which arm: what is on record, else a hash.

What is on record stays, whatever becomes of the stage, so that nobody flips. Somebody anonymous who turns out to be a
user gives this user their arm, if there is none of the user's own; who had both arms is marked, and counts for neither.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from molar_indexes.experiments.arms import LiveExperiment
from molar_indexes.experiments.recording import ExperimentRecorder
from molar_retrieval.data.live_events import EventLogReader
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
from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName, of_key, session_key, user_key
from molar_retrieval.privacy.suppression import EVER, SuppressionList
from molar_retrieval.workspace.artefacts import Workspace

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
