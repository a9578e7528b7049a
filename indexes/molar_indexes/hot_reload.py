"""What answers now, lent to one question at a time, so that no answer reads from two generations.

Before each answer somebody looks whether another generation is live. The first who sees one opens it while the others
go on with the present one; then all new answers have it. The former one is closed when its last answer is through.

A server follows ahead instead (:meth:`Following.ahead`): a thread looks, opens, has the new generation vetted and asks
it the latest questions once more, so that what is read at first use is read before anybody waits for it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from molar_indexes.answerer import Answerer
from molar_indexes.generations import KIND, OpenIndex, open_generation, open_own_index
from molar_retrieval.errors import MolarError, RequestError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import file_stamp
from molar_retrieval.workspace.threads import BackgroundThread, one_thread

if TYPE_CHECKING:
    from molar_indexes.server.config import ServerConfig

Answered = TypeVar("Answered")
_AGAIN = 10.0
"""Seconds until a generation that could not be opened is tried again, if it is still the live one."""
_QUESTIONS, _WARMING = 1_000, 0.3
"""Latest questions that a new generation is asked before it answers, and the seconds that this may take."""


@dataclass(frozen=True)
class Source:
    """Where the live generation comes from.

    ``mark`` changes with it and costs microseconds; ``close`` releases what looking for the mark holds.
    """

    opened: Callable[[], Answerer]
    mark: Callable[[], object]
    close: Callable[[], None] = lambda: None


class _Lent:
    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer
        self.answers = 0  # under way
        self.superseded = False


class Following:
    """Lends the answerer of the live generation; with ``source`` None, always the same one."""

    def __init__(self, answerer: Answerer, source: Source | None = None, mark: object = None) -> None:
        self._present, self._source = _Lent(answerer), source
        self._mark, self._again = mark, float("inf")
        self._counting, self._opening = threading.Lock(), threading.Lock()
        self._closed = False
        self._vetted: Callable[[Answerer], None] | None = None
        self._thread: BackgroundThread | None = None
        self._ended = threading.Event()
        self._questions: deque[Callable[[Answerer], object]] = deque(maxlen=_QUESTIONS)

    @classmethod
    def of(cls, source: Source) -> "Following":
        """Open what is live, and follow it."""
        mark = source.mark()  # before: what goes live while it is opened is seen by the first answer
        return cls(source.opened(), source, mark)

    @property
    def present(self) -> Answerer:
        """What the last answer came from; the next one may come from another."""
        return self._present.answerer

    @contextmanager
    def lent(self) -> Iterator[Answerer]:
        """What answers now; it stays open until the context is left. RequestError once this is closed."""
        if self._source is not None and self._thread is None:
            self._follow(self._source)
        with self._counting:
            if self._closed:
                raise RequestError("the recommender was closed", "open another one")
            lent = self._present
            lent.answers += 1
        try:
            with one_thread():
                yield lent.answerer
        finally:
            with self._counting:
                lent.answers -= 1
                through = lent.superseded and not lent.answers
            if through:
                lent.answerer.close()

    def answer(self, question: Callable[[Answerer], Answered]) -> Answered:
        """What answers now is asked; the latest questions are kept for what will answer next."""
        with self.lent() as answerer:
            answered = question(answerer)
        if self._thread is not None:
            self._questions.append(question)
        return answered

    def ahead(self, every: float, vetted: Callable[[Answerer], None]) -> None:
        """Follow in a thread of its own from now on, until this is closed.

        Args:
            every: Seconds between two looks.
            vetted: Raises a MolarError where what is live must not answer.
        """
        source = self._source
        if source is None:
            return

        def follow() -> None:
            while not self._ended.wait(every):
                self._follow(source)

        self._vetted = vetted
        self._thread = BackgroundThread("follow", follow)
        self._thread.start()

    def catch_up(self) -> None:
        """Return once what is live now answers, or is refused."""
        if self._source is not None:
            with self._opening:
                if not self._closed:
                    self._open(self._source)

    def close(self) -> None:
        """Answer nothing more; files are released when the answers under way are through."""
        self._ended.set()
        with self._opening:  # nothing is opened meanwhile
            with self._counting:
                if self._closed:
                    return
                self._closed = True
            self._supersede(self._present)
            if self._source is not None:
                self._source.close()

    def _follow(self, source: Source) -> None:
        mark = source.mark()
        if (mark == self._mark and time.monotonic() < self._again) or not self._opening.acquire(blocking=False):
            return
        try:
            if not self._closed:
                self._open(source)
        finally:
            self._opening.release()

    def _open(self, source: Source) -> None:
        """Open what is live now and lend it from now on; what cannot be opened is told in answers of the present."""
        mark = source.mark()
        if mark == self._mark and time.monotonic() < self._again:
            return  # somebody else was faster
        former = self._present
        try:
            with ExitStack() as failed:
                fresh = source.opened()
                failed.callback(fresh.close)
                fresh.succeed(former.answerer)
                self._prepare(fresh)
                failed.pop_all()
        except Exception as error:  # damaged files raise whatever they like
            reason = error.message if isinstance(error, MolarError) else f"{type(error).__name__}: {error}"
            own = former.answerer.generation.name
            former.answerer.refused = f"what is live now cannot be used, so generation {own} answers: {reason}"
            self._mark, self._again = mark, time.monotonic() + _AGAIN
            return
        self._mark, self._again = mark, float("inf")
        with self._counting:
            self._present = _Lent(fresh)
        self._supersede(former)

    def _prepare(self, fresh: Answerer) -> None:
        """Ask it the latest questions, half of the time, so that the others are answered meanwhile."""
        if self._vetted is None:
            return
        self._vetted(fresh)
        end = time.monotonic() + _WARMING
        for question in reversed(list(self._questions)):
            began = time.monotonic()
            if began > end or self._ended.is_set():
                return
            with suppress(Exception):  # nobody waits for this answer
                question(fresh)
            self._ended.wait(time.monotonic() - began)

    def _supersede(self, former: _Lent) -> None:
        with self._counting:
            former.superseded = True
            unused = not former.answers
        if unused:
            former.answerer.close()


def answering(
    workspace: Workspace,
    generation: str | None,
    rules: Path | None,
    *,
    rules_needed: bool,
    follow: bool,
    server: "ServerConfig | None",
    trust: bool,
    indexed: OpenIndex = open_own_index,
) -> Following:
    """Open what answers, see :meth:`molar_indexes.recommender.Recommender.open`; the file of rules may not be there.

    Where there is no server, ``indexed`` opens the index.
    """

    def answerer() -> Answerer:
        if server is None:
            opened = open_generation(workspace, generation, indexed=indexed)
        else:
            from molar_indexes.server.opening import open_served  # brings qdrant-client

            opened = open_served(workspace, server, generation)
        return Answerer(workspace, opened, rules, rules_needed=rules_needed, trust=trust)

    if not follow or generation is not None:
        return Following(answerer())
    return Following.of(Source(answerer, partial(file_stamp, workspace[KIND].root / "current")))
