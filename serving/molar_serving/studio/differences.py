"""What one generation changes against another, for the studio: compared once, and kept while the same is asked."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molar_serving.rules_file import RulesFile, etag_of

if TYPE_CHECKING:
    from molar.serving import GenerationDiff
    from molar_serving.service import Service

PEOPLE = 500
"""Of whom lists are compared."""
_KEPT = 16  # comparisons in memory
_Asked = tuple[str, str, str, str]


@dataclass(frozen=True)
class KeptDiff:
    """A comparison, when it was made (seconds since 1970), and how long that took."""

    diff: "GenerationDiff"
    at: float
    seconds: float


class ComparedGenerations:
    """Comparisons of generations that were made in this process; threads may share it."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Asked, KeptDiff] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, service: "Service", before: str, after: str) -> KeptDiff | None:
        """The last one of two generations by the rules of now; None: it has to be made."""
        with self._lock:
            return self._known.get(_asked(service, before, after))

    def made(self, service: "Service", before: str, after: str) -> KeptDiff:
        """Compare two generations by the rules of now, and keep that.

        A MissingArtefactError if there is no such generation, a StaleArtefactError if one is damaged.
        """
        asked, began = _asked(service, before, after), time.perf_counter()
        found = service.shop.diff(before, after, users=PEOPLE)
        kept = KeptDiff(found, time.time(), time.perf_counter() - began)
        with self._lock:
            self._known[asked] = kept
            self._known.move_to_end(asked)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return kept


def _asked(service: "Service", before: str, after: str) -> _Asked:
    return str(service.workspace.root), before, after, etag_of(RulesFile(service.workspace).text)


DIFFERENCES = ComparedGenerations()
"""Those of this process."""
