"""Items: found by id or title; what is known of one, and why it is not shown."""

from urllib.parse import quote

from molar_serving.endpoints.items import standing
from molar_serving.studio.finding import MOST, find_items
from molar_serving.studio.visit import Page, Screen, Visit


async def items(visit: Visit) -> Page:
    """Items by what somebody typed; the one that has this id is opened."""
    typed = visit.asked("q").strip()
    found = await visit.do(lambda: find_items(visit.service.workspace, typed))
    if typed and found and found[0].item_id == typed:
        return Page.to(f"/studio/items/{quote(typed, safe='')}")
    return Page("items/items.html.jinja", {"typed": typed, "found": found, "most": MOST})


async def item(visit: Visit) -> Page:
    """One item: what is known of it, and what keeps it out of lists."""
    item_id = visit.path["item_id"]
    found = await visit.do(lambda: standing(visit.service, item_id))
    return Page("items/item.html.jinja", {"item": found})


SCREENS = (
    Screen("GET", "/studio/items", "viewer", items, nav="items"),
    Screen("GET", "/studio/items/{item_id:path}", "viewer", item),
)
