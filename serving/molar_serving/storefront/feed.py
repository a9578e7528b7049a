"""What happened in the demo shop, for its page: the latest events, numbered."""

import threading
from collections import deque

from msgspec import Struct

_KEPT = 200  # of what happened last


class Act(Struct, kw_only=True):
    """Something that a visitor did, and what came of it.

    Attributes:
        n: Its number, from 1.
        who: The visitor.
        event: What was done: ``impression``, ``click`` or ``purchase``.
        item_id: With which item; None where a list was only looked at.
        changed: Places of the visitor's list that show another item since; None where nobody asked.
        milliseconds: From the event that was sent to the new list that came; None likewise.
    """

    n: int
    who: str
    event: str
    item_id: str | None = None
    changed: int | None = None
    milliseconds: float | None = None


class Feed:
    """What happened last; written by the visitors' thread and read by the server's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Act] = deque(maxlen=_KEPT)
        self._n = 0

    def add(
        self,
        who: str,
        event: str,
        item_id: str | None = None,
        *,
        changed: int | None = None,
        milliseconds: float | None = None,
    ) -> None:
        """Something more happened."""
        with self._lock:
            self._n += 1
            self._kept.append(
                Act(n=self._n, who=who, event=event, item_id=item_id, changed=changed, milliseconds=milliseconds)
            )

    def since(self, n: int) -> list[Act]:
        """What happened after number ``n``, in order, as far as it is kept."""
        with self._lock:
            return [one for one in self._kept if one.n > n]
