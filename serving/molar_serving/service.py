"""All that answers: the shop's recommender and event log, who may ask, and what threads do the work.

The generation is opened in the background, and tried again where there is none, so that events are taken from the
first moment and a shop may be published while its server waits.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from molar.shop import Shop
from molar_indexes.comparison import Compared
from molar_indexes.experiments.answering import Experimenting
from molar_retrieval.errors import MissingArtefactError, MolarError, StaleArtefactError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace.threads import BackgroundThread, on_death
from molar_serving.access import Keyring
from molar_serving.answered import AnsweringGenerations
from molar_serving.former import FormerGenerations
from molar_serving.garbage import look_once
from molar_serving.metrics import Metrics
from molar_serving.propensities import Propensities
from molar_serving.shown import ShownAnswers
from molar_serving.studio.map_making import MapMaking
from molar_serving.watching import ExperimentWatch
from molar_serving.working import Working

if TYPE_CHECKING:
    from molar_indexes.generations import Generation
    from molar_indexes.recommender import Recommender
    from molar_retrieval.data.event_log import AppendResult, EventLog
    from molar_retrieval.workspace.settings import MolarSettings

_AGAIN, _AGAIN_DAMAGED = 1.0, 5.0  # seconds until one looks again for a generation that is not there, or cannot be used
_PHOTOS = 8  # that wait for the one that is searched by
_STUDIO = 2
_APPENDING = 32  # threads that append events; those that wait at once share a commit
_log = logging.getLogger("molar.serving")


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
        previews: What previews of rules leave for the next one; for who is :func:`~molar_serving.comparing.alone`.
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
                    found.query("a first question", 1, fallback="popular")  # what is read once is read now
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
