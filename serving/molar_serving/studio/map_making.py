"""Maps of what is live, made beside the server in a process of its own, never by who asks for a page."""

import logging
import os
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import Workers

if TYPE_CHECKING:
    from molar_indexes.item_map.store import ItemMap

_log = logging.getLogger("molar.serving")
_AGAIN = 60.0  # seconds after which what could not be made is tried again
_PATIENCE = 120.0  # seconds that one process waits for another that makes the same map
_NICE = 10


class MapMaking:
    """The map of the live generation, of which one at a time is made; open until :meth:`close`.

    It is begun when somebody asks for it: a shop that is updated every five minutes has no use for most maps.

    Args:
        workspace: Where generations and maps lie.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._known: ItemMap | None = None
        self._making: tuple[str, Workers, Future[None]] | None = None
        self._failed: tuple[str, float, MolarError] | None = None

    def close(self) -> None:
        """End what is being made; the next server makes it."""
        self._ended.set()
        with self._lock:
            if self._making is not None:
                self._making[1].end()
                self._making = None

    def of(self, generation: str) -> "ItemMap | None":
        """The map of a generation; None where it is being made from now on. A MolarError says why it cannot be."""
        from molar_indexes.item_map.store import item_map

        with self._lock:
            if self._known is None or self._known.generation != generation:
                self._done()
                self._known = item_map(self._workspace, generation)
            failed = self._failed
            if self._known is None and failed and failed[0] == generation and time.monotonic() < failed[1] + _AGAIN:
                raise failed[2]
            if self._known is None and self._making is None and not self._ended.is_set():
                workers = Workers(1, _begin)
                self._making = generation, workers, workers.submit(_make, self._workspace.root, generation)
            return self._known

    def _done(self) -> None:
        """Take note of what has been made, or could not be."""
        if self._making is None or not self._making[2].done():
            return
        generation, workers, future = self._making
        self._making = None
        workers.shutdown(wait=False)
        error = future.exception()
        if error is not None:
            _log.error("the map of generation %s cannot be made", generation, exc_info=error)
            told = DataError(f"the map cannot be made: {type(error).__name__}", "the server's log says why")
            self._failed = generation, time.monotonic(), error if isinstance(error, MolarError) else told


def _begin() -> None:
    os.nice(_NICE)  # answers come first


def _make(root: Path, generation: str) -> None:
    from molar_indexes.item_map.store import make_item_map

    workspace, end = Workspace.open(root), time.monotonic() + _PATIENCE
    while True:
        try:
            make_item_map(workspace, generation)
        except DataError:  # another process of the server is at it
            if time.monotonic() > end:
                raise
            time.sleep(1)
        else:
            return
