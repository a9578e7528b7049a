"""All that answers: the shop's recommender and event log, who may ask, and what threads do the work.

The generation is opened in the background, and tried again where there is none, so that events are taken from the
first moment and a shop may be published while its server waits.

Which generation answered from when, of all processes that serve a workspace: in ``serving/answered.jsonl``.

Nothing depends on it: where it cannot be written, answers come all the same.

Python looks through all objects that it holds for garbage now and then, which takes a server a tenth of a second.

Most of them are there for as long as a generation answers. They are looked through once after it began, and passed over
from then on, until another one answers. What an answer makes is gone after it, so new objects are looked through once
many answers have been given, not after each of them.

The experiments that run are looked at every half a minute, by one of the processes that serve a workspace.

A look reads the event log, so a process beside the server takes it, which comes after answers; it is there while an
experiment runs. What a look decides by itself, as going back from harm, is on record and in the server's log.
"""

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from molar.shop import Shop
from molar_eval.experiments.routing import Experimenting
from molar_indexes.comparison import Compared
from molar_retrieval.errors import MissingArtefactError, MolarError, StaleArtefactError
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace.activity_log import JsonLines
from molar_retrieval.workspace.files import lock_now
from molar_retrieval.workspace.jobs import Workers
from molar_retrieval.workspace.threads import BackgroundThread, on_death
from molar_serving.audit import FOLDER
from molar_serving.auth import Keyring
from molar_serving.observability import Metrics
from molar_serving.overload import Working
from molar_serving.response_store import Propensities, ShownAnswers
from molar_serving.studio.map_making import MapMaking

if TYPE_CHECKING:
    from molar_indexes.generations import Generation
    from molar_indexes.recommender import Recommender
    from molar_retrieval.data.event_log import AppendResult, EventLog
    from molar_retrieval.workspace.settings import MolarSettings

_FORMER = 2  # that are open at once
_IDLE = 60.0  # seconds after which one is closed that nobody asks
_ANSWERED, _BYTES, _OLDER = "answered.jsonl", 1 << 20, 4
_LINES = 50_000  # lines that are looked at
_ABOUT = 5.0  # seconds within which all processes have gone over to another generation
_FULL_COLLECTION = 2  # the generation of objects that is collected last, with all others
_NEW_OBJECTS = 20_000  # objects that are made before the new ones are looked through; an answer makes some hundreds
_freeze_due = False
_WATCH = "watch.lock"
_PATIENCE = 0.2  # seconds after which a look that goes on is given up, if the server ends
_NICE = 10
_log = logging.getLogger("molar.serving")
_AGAIN, _AGAIN_DAMAGED = 1.0, 5.0  # seconds until one looks again for a generation that is not there, or cannot be used
_PHOTOS = 8  # that wait for the one that is searched by
_STUDIO = 2
_APPENDING = 32  # threads that append events; those that wait at once share a commit


@dataclass
class _Open:
    recommender: "Recommender"
    askers: int = 0
    asked: float = 0.0


class FormerGenerations:
    """Lends former generations; ``opened`` opens one by its name, or raises a MolarError."""

    def __init__(self, opened: "Callable[[str], Recommender]") -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    @contextmanager
    def lent(self, name: str) -> "Iterator[Recommender | None]":
        """What answers from a generation; None where it cannot be opened any more."""
        with self._lock:
            one = self._found(name)
            if one is not None:
                one.askers += 1
        try:
            yield None if one is None else one.recommender
        finally:
            if one is not None:
                with self._lock:
                    one.askers, one.asked = one.askers - 1, time.monotonic()
                self.release()

    def release(self, *, everything: bool = False) -> None:
        """Close what nobody has asked for a while, so that it may be removed from the disk; or all."""
        with self._lock:
            idle = sorted((one.asked, name) for name, one in self._open.items() if not one.askers)
            too_many = len(self._open) - _FORMER
            for place, (asked, name) in enumerate(idle):
                if everything or place < too_many or asked + _IDLE < time.monotonic():
                    self._open.pop(name).recommender.close()

    def _found(self, name: str) -> _Open | None:
        if name not in self._open:
            try:
                self._open[name] = _Open(self._opened(name))
            except MolarError:
                return None
        return self._open[name]


class AnsweringGenerations:
    """The record of a workspace; processes may share it."""

    def __init__(self, workspace: Path) -> None:
        self._lines = JsonLines(workspace / FOLDER / _ANSWERED, most=_BYTES, kept=_OLDER)

    def begins(self, generation: str) -> None:
        """Write down that a generation answers from now on, here."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with suppress(MolarError):
            self._lines.append({"time": now, "generation": generation})

    def at(self, moment: float) -> list[str]:
        """Which answered at a moment, in seconds since 1970: one or, about a change, several, the likeliest first.

        Empty where nothing tells.
        """
        found: list[str] = []
        for line in self._lines.newest(_LINES):
            begun, name = datetime.fromisoformat(line["time"]).timestamp(), line["generation"]
            if begun > moment:
                continue
            if name not in found:
                found.append(name)
            if begun < moment - _ABOUT:
                break
        return found

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def look_once(*, now: bool = False) -> None:
    """Pass over what survives the next full collection; ``now``: which takes place at once."""
    global _freeze_due
    _freeze_due = True
    gc.set_threshold(_NEW_OBJECTS)
    gc.unfreeze()
    if _pass_over not in gc.callbacks:
        gc.callbacks.append(_pass_over)
    if now:
        gc.collect()


def _pass_over(phase: str, info: dict[str, int]) -> None:
    global _freeze_due
    if _freeze_due and phase == "stop" and info["generation"] == _FULL_COLLECTION:
        _freeze_due = False
        gc.freeze()


class Watched(NamedTuple):
    """What came of a look: what happened by itself, in sentences, and what is wrong, by experiment."""

    done: list[str]
    wrong: Mapping[str, str]


class ExperimentWatch:
    """Looks at the experiments of a shop, unless another process does; open until :meth:`close`.

    Args:
        shop: The shop.
        seconds: Between two looks.
        running: Whether any experiment runs.
    """

    def __init__(self, shop: Shop, seconds: float, running: Callable[[], bool]) -> None:
        self._shop, self._seconds, self._running = shop, seconds, running
        self._ended = threading.Event()
        self._lock: int | None = None
        self._workers: Workers | None = None
        self._wrong: Mapping[str, str] = {}
        self._thread = BackgroundThread("watch", self._run)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; a look under way is given up, which leaves the record as it is."""
        self._ended.set()
        self._thread.join()
        self._rest()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            if not self._running():
                self._rest()
            elif self._is_ours():
                self._look()

    def _is_ours(self) -> bool:
        """Whether no other process looks; it stays so until this one ends."""
        if self._lock is not None:
            return True
        path = self._shop.workspace / FOLDER / _WATCH
        try:
            path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:  # nor could a look be written down
            self._tell({"": f"{path} cannot be written: {error.strerror}"})
            return False
        try:
            free = lock_now(descriptor)
        except OSError:  # a file system without locks; two looks do what one does
            free = True
        if free:
            self._lock = descriptor
        else:
            os.close(descriptor)
        return free

    def _look(self) -> None:
        if self._workers is None:
            self._workers = Workers(1, _begin)
        future: Future[Watched] = self._workers.submit(look, self._shop.workspace, self._shop.settings_file)
        while not self._ended.is_set() and not wait([future], _PATIENCE).done:
            pass
        if not future.done():
            return
        try:
            found = future.result()
        except BrokenProcessPool:
            self._rest()
            found = Watched([], {"": "the process that looks has died"})
        except Exception as error:  # damaged files raise whatever they like
            found = Watched([], {"": f"{type(error).__name__}: {error}"})
        for sentence in found.done:
            _log.warning("%s", sentence)
        self._tell(found.wrong)

    def _tell(self, wrong: Mapping[str, str]) -> None:
        """Say what is wrong, once."""
        for name, words in wrong.items():
            if self._wrong.get(name) != words:
                _log.warning("experiments%s cannot be looked at: %s", f", {name}," if name else "", words)
        self._wrong = wrong

    def _rest(self) -> None:
        if self._workers is not None:
            self._workers.end()
            self._workers = None


def look(workspace: Path, settings_file: Path | None) -> Watched:
    """One look at each experiment that runs, which carries out what happens by itself."""
    shop = Shop(None, workspace, settings_file)
    found = Watched([], wrong := {})
    with ExperimentStore(shop.opened()) as store:
        for one in store.running():
            name, before = one.experiment.name, len(store.stages(one.experiment.name))
            try:
                shop.experiments.check(name)
            except MolarError as error:
                wrong[name] = error.message
            except Exception as error:  # the next one is looked at nevertheless
                wrong[name] = f"{type(error).__name__}: {error}"
            for row in store.stages(name)[before:]:
                found.done.append(f"experiment {name} is {_now(row.stage)} now: {row.why}")
    return found


def _now(stage: str) -> str:
    return "stopped" if stage == "stopped" else f"in its stage {stage}"


def _begin() -> None:
    os.nice(_NICE)  # answers come first


class Service:
    """What one process serves from; open until :meth:`close`.

    Args:
        shop: The shop.
        settings: Its settings, or others; None: as its files say.

    Attributes:
        shop: The shop.
        settings: All of its settings, read once.
        keys: Who may ask.
        metrics: What is counted.
        answers: Threads that answer.
        spare: A thread that makes the popular list where another one would be late.
        photos: A thread that searches by photos, each of which takes as long as hundreds of lists.
        appends: Threads that append events.
        studio: Threads that make pages of the studio.
        maps: The map of what is live, made beside the server.
        former: Generations that are live no more.
        answered: Which generation answered from when.
        shown: What was answered in the last minutes.
        previews: What previews of rules leave for the next one; for who is :func:`~molar_serving.overload.alone`.
        experiments: Those of the shop that run; None while nothing answers.
        watch: Looks at them, in one of the processes.
        tried: Set once it was tried to open what is live, for better or worse.
    """

    def __init__(self, shop: Shop, settings: "MolarSettings | None" = None) -> None:
        self.shop, self.settings = shop, shop.settings if settings is None else settings
        self.workspace = shop.ready()
        self.keys = Keyring(self.workspace.root)
        serve = self.settings.serve
        self.metrics = Metrics()
        self.answers = Working(serve.threads, serve.queue_size, refusing=lambda: self.metrics.shed("request"))
        self.spare = Working(1, serve.queue_size)
        self.photos = Working(1, _PHOTOS, patient=True)
        self.appends = Working(_APPENDING, 10 * serve.queue_size, patient=True)
        self.studio = Working(_STUDIO, serve.queue_size, patient=True)
        self.former = FormerGenerations(self._opened)
        self.answered = AnsweringGenerations(self.workspace.root)
        self.shown = ShownAnswers(self.workspace.root, serve.response_ttl_minutes, self.former.release)
        self.previews = Compared()
        self.maps = MapMaking(self.workspace)
        self.experiments: Experimenting | None = None
        self.watch = ExperimentWatch(shop, self.settings.experiments.watch, self._experiment_runs)
        self._recommender: Recommender | None = None
        self._log: EventLog | None = None
        self._missing: MolarError = MissingArtefactError("the generation is being opened", "ask again in a second")
        self._reading = threading.Lock()
        self._whole_ones: set[str] = set()  # generations of which all files were read
        self._uncounted: Callable[[], None] = lambda: None
        self.tried, self._ended = threading.Event(), threading.Event()
        self._opening_log = threading.Lock()
        self._opener = BackgroundThread("open", self._open)

    def start(self) -> None:
        """Open what is live, in the background."""
        self._uncounted = on_death(self.metrics.thread_died)
        self._opener.start()
        self.shown.start()
        self.watch.start()

    def close(self) -> None:
        """Let what is under way come to its end, then release all files."""
        self._ended.set()
        self._opener.join()
        self.watch.close()
        self.answers.close()
        self.spare.close()
        self.photos.close()
        self.appends.close()
        self.studio.close()
        self.maps.close()
        self.shown.close()
        self.former.release(everything=True)
        self.answered.close()
        if self.experiments is not None:
            self.experiments.close()
        if self._recommender is not None:
            self._recommender.close()
        if self._log is not None:
            self._log.close()
        self._uncounted()

    @property
    def names(self) -> Pseudonymiser:
        """What people are called in the workspace."""
        return Pseudonymiser.of(self.workspace.root)

    @property
    def recommender(self) -> "Recommender":
        """What answers; a MolarError says why nothing does."""
        if self._recommender is None:
            raise self._missing
        return self._recommender

    def catch_up(self) -> None:
        """Return once what is live now answers in this process; others follow within a tenth of a second."""
        if self._recommender is not None:
            self._recommender.catch_up()
        if self.experiments is not None:
            self.experiments.catch_up()

    def append(self, rows: list[Mapping[str, Any]], barred: Mapping[str, str] | None = None) -> "AppendResult":
        """Append events, but of the kinds that are barred; when it returns, those accepted are on the disk.

        A MolarError where they cannot be.
        """
        with self._opening_log:
            if self._log is None:
                from molar_retrieval.data.event_log import EventLog

                self._log = EventLog(self.workspace)
        completed, late = Propensities(self.shown).completed, self.settings.events.late_days
        report = self._log.append(enumerate(rows), late_days=late, barred=barred, completed=completed)
        self.metrics.appended(report)
        return report

    def _opened(self, generation: str | None = None) -> "Recommender":
        """What answers from what is live, or from a generation; a server that has the items gets half of a list's time.

        So there is time left for the workspace to answer, where it may.
        """
        from molar_indexes.recommender import Recommender

        server = self.shop.server()
        if server is not None:
            server = replace(server, timeout=min(server.timeout, self.settings.serve.deadline / 2))
        return Recommender.open(self.shop.workspace, generation, server=server)

    def _open(self) -> None:
        while not self._ended.is_set():
            try:
                found = self._opened()
                try:
                    self._whole(found.generation)
                    found.query("a first question", k=1)  # what is read once is read now
                except BaseException:
                    found.close()
                    raise
            except Exception as error:  # damaged files raise whatever they like
                self._missing = _told(error)
                self.tried.set()
                self._ended.wait(_AGAIN if isinstance(error, MissingArtefactError) else _AGAIN_DAMAGED)
            else:
                look_once(now=True)
                self.answered.begins(found.generation.name)
                found.follow_ahead(self._admitted)
                self.experiments = Experimenting(
                    self.workspace,
                    found,
                    self._of_arm,
                    self.settings.experiments,
                    dropping=lambda: self.metrics.shed("comparison"),
                )
                self.experiments.start()
                self._recommender = found
                self.tried.set()
                break
        for folder in self.workspace["generations"].versions():  # so that going back to one takes no time
            if not self._ended.is_set():
                self._wrong(folder.name)

    def _experiment_runs(self) -> bool:
        return self.experiments is not None and bool(self.experiments.running.present)

    def _of_arm(self, generation: str | None, rules: str | None) -> "Recommender":
        """What answers for an arm of an experiment: a generation that stays, or what is live."""
        found = self.shop.recommender(generation=generation, rules=rules)
        try:
            self._whole(found.generation)
        except BaseException:
            found.close()
            raise
        if generation is None:
            found.follow_ahead(self._whole)
        return found

    def _admitted(self, generation: "Generation") -> None:
        """Let a whole generation answer from now on."""
        self._whole(generation)
        look_once()
        self.answered.begins(generation.name)

    def _whole(self, generation: "Generation") -> None:
        """Read all files of a generation; a StaleArtefactError if a byte has changed since it was published."""
        if problems := self._wrong(generation.name):
            words = "`molar index rollback` goes back to the one before, `molar align` publishes a new one"
            raise StaleArtefactError(f"generation {generation.name} is damaged: {problems[0]}", words)

    def _wrong(self, name: str) -> list[str]:
        """What is wrong with the files of a generation; those of a whole one are read once."""
        from molar_indexes.verify import bytes_changed

        with self._reading:
            if name in self._whole_ones:
                return []
            if not (problems := bytes_changed(self.workspace, name)):
                self._whole_ones.add(name)
            return problems


def _told(error: Exception) -> MolarError:
    """What is said of a generation that cannot be opened."""
    if isinstance(error, MolarError):
        return error
    _log.error("the generation cannot be opened", exc_info=error)
    return StaleArtefactError("the generation cannot be opened", "the server's log says why")
