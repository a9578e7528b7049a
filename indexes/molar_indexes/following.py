"""What answers now, lent to one question at a time, so that no answer reads from two generations.

Before each answer somebody looks whether another generation is live. The first who sees one opens it while the others
go on with the present one; then all new answers have it. The former one is closed when its last answer is through.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from molar_indexes.answerer import Answerer
from molar_retrieval.errors import MolarError, RequestError

_AGAIN = 10.0
"""Seconds until a generation that could not be opened is tried again, if it is still the live one."""


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
        if self._source is not None:
            self._follow(self._source)
        with self._counting:
            if self._closed:
                raise RequestError("the recommender was closed", "open another one")
            lent = self._present
            lent.answers += 1
        try:
            yield lent.answerer
        finally:
            with self._counting:
                lent.answers -= 1
                through = lent.superseded and not lent.answers
            if through:
                lent.answerer.close()

    def close(self) -> None:
        """Answer nothing more; files are released when the answers under way are through."""
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
                failed.pop_all()
        except (MolarError, OSError) as error:
            reason = error.message if isinstance(error, MolarError) else str(error)
            own = former.answerer.generation.name
            former.answerer.refused = f"what is live now cannot be used, so generation {own} answers: {reason}"
            self._mark, self._again = mark, time.monotonic() + _AGAIN
            return
        self._mark, self._again = mark, float("inf")
        with self._counting:
            self._present = _Lent(fresh)
        self._supersede(former)

    def _supersede(self, former: _Lent) -> None:
        with self._counting:
            former.superseded = True
            unused = not former.answers
        if unused:
            former.answerer.close()
