"""Generations: which answers, what another one would change for people, making it live and going back."""

import asyncio
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from molar_serving.endpoints.generations import listed, switched
from molar_serving.overload import alone
from molar_serving.problems import ProblemError
from molar_serving.rules_file import RulesFile, etag_of
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar.serving import GenerationDiff
    from molar_serving.endpoints.generations import GenerationsAnswer
    from molar_serving.service import Service

PEOPLE = 500
"""Of whom lists are compared."""
_KEPT = 16  # comparisons in memory
_Asked = tuple[str, str, str, str]
_SHOWN = 10  # items that gain, items that lose


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


async def generations(visit: Visit) -> Page:
    """All generations, the newest first."""
    found = await visit.do(lambda: listed(visit.service))
    newest = list(reversed(found.generations))
    places = {one.generation: place for place, one in enumerate(newest)}
    live = places.get(found.live or "", len(newest))
    shown = {"generations": newest, "live": found.live, "waiting": live, "before": _before(found)}
    return Page("generations/generations.html.jinja", shown)


async def comparison(visit: Visit) -> Page:
    """What changes for people from one generation to another; a part of the page asks for it, as it takes seconds."""
    found = await visit.do(lambda: listed(visit.service))
    a, b = _pair(visit, found)
    kept = None if visit.asked("anew") else DIFFERENCES.known(visit.service, a, b)
    if kept is None and (visit.fragment or visit.asked("now")):
        kept = await alone(lambda: DIFFERENCES.made(visit.service, a, b))
    shown = {"a": a, "b": b, "live": found.live, "people": PEOPLE, "most": _SHOWN}
    shown |= {"address": f"/studio/generations/compare?{urlencode({'a': a, 'b': b})}"}
    part = "generations/difference.html.jinja" if visit.fragment else "generations/compare.html.jinja"
    return Page(part, {**shown, **_told(kept)})


async def activate(visit: Visit) -> Page:
    """Make a generation the live one."""
    await asyncio.to_thread(switched, visit.call, visit.path["generation"])
    return Page.to("/studio/generations")


def _told(kept: KeptDiff | None) -> dict[str, object]:
    return {"diff": None if kept is None else kept.diff, "at": kept and kept.at, "seconds": kept and kept.seconds}


def _before(found: "GenerationsAnswer") -> str | None:
    """The generation that was made before the live one; None where there is none."""
    names = [one.generation for one in found.generations]
    place = names.index(found.live) if found.live in names else 0
    return names[place - 1] if place > 0 else None


def _pair(visit: Visit, found: "GenerationsAnswer") -> tuple[str, str]:
    """Which two are asked for; a ProblemError if one is not there."""
    names = [one.generation for one in found.generations]
    a, b = visit.asked("a") or found.live or "", visit.asked("b") or found.live or ""
    for name in (a, b):
        if name not in names:
            raise ProblemError(404, f"there is no generation {name[:200]!r}", "choose one of the list")
    return a, b


SCREENS = (
    Screen("GET", "/studio/generations", "viewer", generations, nav="generations"),
    Screen("GET", "/studio/generations/compare", "viewer", comparison),
    Screen("POST", "/studio/generations/{generation}/activate", "admin", activate, changes=True),
)
