"""The experiments that run are looked at every half a minute, by one of the processes that serve a workspace.

A look reads the event log, so a process beside the server takes it, which comes after answers; it is there while an
experiment runs. What a look decides by itself, as going back from harm, is on record and in the server's log.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from molar.shop import Shop
from molar_retrieval.errors import MolarError
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.files import lock_now
from molar_retrieval.workspace.jobs import Workers
from molar_retrieval.workspace.threads import BackgroundThread
from molar_serving.audit import FOLDER

FILE = "watch.lock"
_PATIENCE = 0.2  # seconds after which a look that goes on is given up, if the server ends
_NICE = 10
_log = logging.getLogger("molar.serving")


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
        path = self._shop.workspace / FOLDER / FILE
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
