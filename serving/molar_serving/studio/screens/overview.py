"""The overview: whether all is well, how fresh answers are, what the last night took, and how trade goes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molar_retrieval.workspace.activity_log import work_done
from molar_serving.studio.status import (
    Ailment,
    Freshness,
    NightlyCost,
    ShareOfDays,
    Trade,
    freshness,
    health,
    latest_trade,
    nightly_cost,
)
from molar_serving.studio.visit import Page, Screen, Visit

if TYPE_CHECKING:
    from molar_serving.service import Service


@dataclass(frozen=True)
class Overview:
    """All of the overview but the figures, which may take a moment."""

    fresh: Freshness
    findings: list[Ailment]
    cost: NightlyCost
    recorded: bool


async def overview(visit: Visit) -> Page:
    """The page; it asks for the figures by itself."""
    return await _page(visit, None)


async def figures(visit: Visit) -> Page:
    """The figures, as a part of the page, or with all of it."""
    found = await visit.do(lambda: latest_trade(visit.service.workspace))
    if visit.fragment:
        return Page("overview/figures.html.jinja", {"trade": found, "share": ShareOfDays.of})
    return await _page(visit, found)


async def _page(visit: Visit, found: Trade | None) -> Page:
    state = await visit.do(lambda: _overview(visit.service))
    costs = visit.service.settings.costs
    shown = {"state": state, "costs": costs, "trade": found, "share": ShareOfDays.of}
    return Page("overview/overview.html.jinja", shown)


def _overview(service: "Service") -> Overview:
    fresh, works = freshness(service), work_done(service.workspace)
    return Overview(fresh, health(service, fresh), nightly_cost(works, service.settings.costs), bool(works))


SCREENS = (
    Screen("GET", "/studio", "viewer", overview, nav="overview"),
    Screen("GET", "/studio/overview/figures", "viewer", figures),
)
