"""Write the pictures of docs/studio/: each screen of the studio on a made-up shop; `make screenshot` runs this.

Needs Chromium (or Chrome) on the path. Takes some minutes: the shop is trained, and lives for three weeks.
"""

import io
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from browser import Browser
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from studio_shop import LivelyShop, served

FOLDER = Path(__file__).with_name("studio")
WIDTH, HEIGHT, MOST = 1280, 860, 80_000  # bytes
_SETTLED = "document.readyState === 'complete' && !document.querySelector('.htmx-request, .htmx-swapping')"
_HANDS = (
    "const click = (css) => document.querySelector(css).click(),"
    " fill = (css, text) => { document.querySelector(css).value = text; };"
)
_MAP_SECONDS = 300


def pictured(person: str, item: str, generations: tuple[str, str]) -> Mapping[str, tuple[str, Sequence[str], str]]:
    """By the name of a picture: the address, what is done there step by step, and what is scrolled to."""
    return {
        "overview": ("/studio", (), ""),
        "person": (f"/studio/people/{person}", ("click('#history .again')",), "#person"),
        "why": (f"/studio/people/{person}", ("click('#list .does a')",), "#list"),
        "item": (f"/studio/items/{item}?who={person}", (), ""),
        "search": (f"/studio/search?text=lamp&who={person}&beside=nobody", (), ""),
        "rules": (
            "/studio/rules",
            (
                "click('[value=\"new:boost\"]')",
                "fill('[name=condition]', 'material = wool'), fill('[name=by]', '2'), click('[value=keep]')",
                "click('[hx-post=\"/studio/rules/preview\"]')",
            ),
            "",
        ),
        "generations": (f"/studio/generations/compare?a={generations[0]}&b={generations[1]}", (), ""),
        "map": ("/studio/map", ("click('#map-category button')",), "#maps"),
        "data": ("/studio/data", ("click('.finding:nth-child(2) summary')",), ""),
        "events": ("/studio/events?live=0", (), ""),
        "changes": ("/studio/changes", ("click('#changes summary')",), ""),
    }


def main() -> None:
    """Make the shop, serve it, open each screen, photograph it."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        shop = LivelyShop(Path(name))
        with served(shop.shop) as address, Browser(WIDTH, HEIGHT) as browser:
            a, b = (one.name for one in shop.shop.generations())
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
                until_map(client)
            for picture, (path, does, at) in pictured(shop.person, "SKU-0145", (a, b)).items():
                browser.go(address + path)
                settle(browser)
                for step in does:
                    browser.run(f"{{ {_HANDS} {step}; }}")
                    settle(browser)
                if at:
                    browser.run(f"document.querySelector({at!r}).scrollIntoView()")
                    settle(browser)
                write(browser, FOLDER / f"{picture}.webp")


def until_map(client: httpx.Client) -> None:
    """Wait until the map is made, which the first who opens its page asks for."""
    end = time.monotonic() + _MAP_SECONDS
    while 'id="map-making"' in client.get("/studio/map").text:
        assert time.monotonic() < end, "there never is a map"
        time.sleep(0.5)


def settle(browser: Browser) -> None:
    """Wait until nothing is under way any more."""
    time.sleep(0.3)
    browser.wait(_SETTLED)
    browser.wait("[...document.images].every((one) => one.complete || one.loading === 'lazy')")
    time.sleep(0.4)


def write(browser: Browser, path: Path) -> None:
    """Write what is seen as WebP, as good as its size allows."""
    with tempfile.TemporaryDirectory() as name:
        seen = Path(name) / "seen.png"
        browser.picture(seen)
        image = Image.open(seen).convert("RGB")
    for quality in (88, 80, 70, 60, 50, 40):
        told = io.BytesIO()
        image.save(told, "WEBP", quality=quality, method=6)
        if told.tell() <= MOST:
            break
    path.write_bytes(told.getvalue())


if __name__ == "__main__":
    main()
