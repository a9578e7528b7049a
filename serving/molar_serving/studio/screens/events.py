"""What comes in, as it comes: the last events, those that were refused, what is done with them, what goes wrong."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.event_parsing import EVENT_TYPES
from molar_retrieval.data.refused_events import RefusedEvent, RefusedEvents
from molar_retrieval.workspace.activity_log import Work, work_done
from molar_serving.observability import ServerWarning, newest_warnings
from molar_serving.studio.status import WEEK, DiskUse, disk_use, latest_trade
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar_serving.service import Service

_EVENTS, _REFUSED, _WORKS, _WARNINGS = 100, 50, 30, 50
_LOOKED_THROUGH = 2_000  # of the last events, for those of one kind
_COLUMNS = (
    "seq",
    "event",
    "user_id",
    "session_id",
    "item_id",
    "received",
    "timestamp",
    "value",
    "list_id",
    "request_id",
)


@dataclass(frozen=True)
class Arrivals:
    """What came last.

    Attributes:
        events: Lines of the event log, the newest first, as their columns name them.
        refused: Events that were refused, the newest first.
        mark: Changes when something comes.
    """

    events: list[dict[str, Any]]
    refused: list[RefusedEvent]
    mark: str


@dataclass(frozen=True)
class Behind:
    """What is done behind the events: works, what the server says, the disk."""

    works: list[Work]
    warnings: list[ServerWarning]
    disk: DiskUse


async def events(visit: Visit) -> Page:
    """The page; its first part asks for itself again every two seconds, unless that is stopped."""
    kind = _kind(visit)
    arrivals = await visit.do(lambda: _arrivals(visit.service, kind))
    behind = await visit.do(lambda: _behind(visit.service))
    shown = {
        "arrivals": arrivals,
        "behind": behind,
        "kinds": EVENT_TYPES,
        "kind": kind,
        "live": visit.asked("live") != "0",
    }
    return Page("events/events.html.jinja", shown)


async def arrived(visit: Visit) -> Page:
    """What came last, as a part of the page; nothing where that is what the page shows already."""
    kind = _kind(visit)
    if await visit.do(lambda: _mark(visit.service)) == visit.asked("mark"):
        return Page(status=204)
    arrivals = await visit.do(lambda: _arrivals(visit.service, kind))
    return Page("events/arrived.html.jinja", {"arrivals": arrivals, "kind": kind, "live": True})


async def attributed(visit: Visit) -> Page:
    """The share of what people did that is attributed to lists, by day."""
    if not visit.fragment:
        return Page.to("/studio/overview/figures")
    found = await visit.do(lambda: latest_trade(visit.service.workspace))
    return Page("events/attributed.html.jinja", {"days": found.days[-2 * WEEK :]})


def _kind(visit: Visit) -> str:
    asked = visit.asked("kind")
    return asked if asked in EVENT_TYPES else ""


def _arrivals(service: "Service", kind: str) -> Arrivals:
    mark = _mark(service)  # what comes from here on is asked for again
    refused = RefusedEvents(service.workspace.root).newest(_REFUSED)
    lines: list[dict[str, Any]] = []
    with opened(service.workspace) as state:
        if state is not None:
            newest = state.newest(_LOOKED_THROUGH if kind else _EVENTS).select(_COLUMNS).to_pylist()
            lines = [line for line in reversed(newest) if kind in ("", line["event"])][:_EVENTS]
    return Arrivals(lines, refused, mark)


def _mark(service: "Service") -> str:
    """What changes when an event comes, taken or refused; reads none of them."""
    with opened(service.workspace) as state:
        last = 0 if state is None else state.last
    return f"{last} {RefusedEvents(service.workspace.root).mark}"


def _behind(service: "Service") -> Behind:
    root = service.workspace.root
    return Behind(work_done(service.workspace, _WORKS), newest_warnings(root, _WARNINGS), disk_use(service.workspace))


SCREENS = (
    Screen("GET", "/studio/events", "viewer", events, nav="events"),
    Screen("GET", "/studio/events/arrived", "viewer", arrived),
    Screen("GET", "/studio/events/attributed", "viewer", attributed),
)
