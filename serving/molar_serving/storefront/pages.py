"""The page of the demo shop and what it is made of; `molar serve` has none of it."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from molar_retrieval.data.demo import DemoShop
from molar_retrieval.data.demo.catalogue import items_table
from molar_serving.endpoint import encode
from molar_serving.origins import is_loopback
from molar_serving.storefront.feed import Feed
from molar_serving.storefront.visitors import PLACES, Person

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BEFORE = 6  # of what somebody bought last, shown
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Storefront:
    """The page of a demo shop: its files, its catalogue, its photos, and what its visitors did.

    Args:
        folder: The shop's catalogue, with its photos.
        plan: What it sells, and what its people like.
        people: Who visits.
        feed: What they did.
        until: When they leave, in seconds since 1970.
    """

    def __init__(self, folder: Path, plan: DemoShop, people: Sequence[Person], feed: Feed, until: float) -> None:
        self._feed, self._until = feed, until
        rows = items_table(plan).to_pylist()
        self._photos = {row["item_id"]: folder / row["image"] for row in rows if row["image"] is not None}
        shop = {"places": PLACES, "items": [_item(row) for row in rows], "people": [_told(plan, one) for one in people]}
        parts = resources.files(__package__) / "static"
        self._files = {file.name: (file.read_bytes(), _KINDS[Path(file.name).suffix]) for file in parts.iterdir()}
        self._files["shop.json"] = (encode(shop), "application/json")

    @property
    def routes(self) -> list[Route]:
        """What is added to the routes of the server."""
        return [
            Route("/", self._page),
            Route("/shop/feed", self._happened),
            Route("/shop/photos/{item_id}", self._photo),
            Route("/shop/{name}", self._file),
        ]

    async def _page(self, request: Request) -> Response:
        return _reply(request, *self._files["shop.html"])

    async def _file(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        return _reply(request, b"", status=404) if found is None else _reply(request, *found)

    async def _photo(self, request: Request) -> Response:
        path = self._photos.get(request.path_params["item_id"])
        if path is None:
            return _reply(request, b"", status=404)
        return _reply(request, path.read_bytes(), "image/jpeg", cache="max-age=3600")

    async def _happened(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        happened = self._feed.since(int(after) if after.isdecimal() else 0)
        return _reply(request, encode({"happened": happened, "until": self._until}), "application/json")


def _reply(
    request: Request, content: bytes, kind: str = "text/plain", *, status: int = 200, cache: str = "no-cache"
) -> Response:
    """A part of the page, for browsers of this machine that name it as such."""
    if not is_loopback(request.url.hostname or ""):
        content, kind, status = b"this shop is for this machine alone", "text/plain", 403
    return Response(content, status, {**_HEADERS, "Cache-Control": cache}, kind)


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("item_id", "title", "description", "price", "category")}
    return {**shown, "photo": row["image"] is not None}


def _told(plan: DemoShop, person: Person) -> dict[str, Any]:
    """A visitor as the page shows them, with the tastes that the server does not know."""
    user = plan.users[person.user]
    tastes = [user.pattern, None if user.story is None else user.story.replace("_", " "), user.colour]
    known = "user_id" in person.sent
    bought = [plan.items[purchase.item].item_id for purchase in user.purchases[-_BEFORE:]] if known else []
    likes = [taste for taste in tastes if taste is not None]
    return {"name": person.name, "sent": person.sent, "likes": likes, "bought": bought[::-1]}
