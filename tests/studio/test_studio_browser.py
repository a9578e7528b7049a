"""The studio in a browser: every screen, light and dark, wide and narrow, for everybody, and clicked through.

Screenshots go to the folder that ``MOLAR_TEST_PICTURES`` names.
"""

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest
from copies import copy_workspace
from studio_browser import Reader, chromium
from web_server import address_of

import molar
from molar_serving.studio.tables import NAVIGATION

pytestmark = pytest.mark.slow
PICTURES = os.environ.get("MOLAR_TEST_PICTURES")


@pytest.fixture(scope="module")
def shop(trained, tmp_path_factory):
    """A shop in which something happened."""
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("browser") / ".molar")
    shop = molar.Shop(None, workspace)
    events = []
    with shop.recommender() as recommender:
        for number, day in enumerate(range(6, -1, -1)):
            answer = recommender.query(trained.user, 10)
            shown = answer.impression()
            moment = int(time.time()) - 86_400 * day
            event = {"timestamp": moment, "user_id": trained.user, "request_id": answer.request_id}
            events.append(shown | {"timestamp": moment, "event_id": uuid4().hex})
            for kind, item in zip(
                ("click", "add_to_cart", "purchase"), answer.items[number : number + 3], strict=False
            ):
                more = {"value": 20.0, "quantity": 1} if kind == "purchase" else {}
                own = {"event_id": uuid4().hex, "event": kind, "item_id": item.item_id, "timestamp": moment + 60}
                events.append(event | own | more)
    report = shop.events.append(events)
    assert report.refusals == []
    return workspace


@pytest.fixture(scope="module")
def address(shop):
    with address_of(shop) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def reader(browser, address):
    reader = Reader(browser, address)
    yield reader
    complaints, elsewhere = reader.complaints, reader.elsewhere
    reader.close()
    assert (complaints, elsewhere) == ([], [])


def screens(trained):
    """Every screen by a name and its address."""
    return {
        **NAVIGATION,
        "item": f"/studio/items/SKU-0042?who={trained.user}",
        "found": f"/studio/search?text=lamp&who={trained.user}&beside=nobody",
        "signing-in": "/studio/session",
    }


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)], ids=["wide-light", "narrow-dark"])
def test_everybody_can_use_every_screen(browser, address, trained, width, dark):
    reader = Reader(browser, address, width=width, dark=dark)
    found = {}
    for name, path in screens(trained).items():
        reader.go(path)
        found[name] = reader.barriers(), reader.overflow()
        if PICTURES:
            reader.picture(Path(PICTURES) / f"{name}-{width}.png")
    complaints, elsewhere = reader.complaints, reader.elsewhere
    reader.close()
    assert found == {name: ([], 0) for name in found}
    assert (complaints, elsewhere) == ([], [])


@pytest.mark.parametrize(("language", "word"), [("de-DE", "Artikel"), ("ja-JP", "商品")])
def test_a_reader_is_spoken_to_in_their_language(browser, address, trained, language, word):
    reader = Reader(browser, address, width=375, language=language)
    for path in screens(trained).values():
        page = reader.go(path)
        assert page.locator("html").get_attribute("lang") == language[:2]
        assert reader.overflow() == 0, path
    assert word in reader.go("/studio/items").title()
    reader.close()


def test_the_keyboard_alone_gets_to_the_content_and_finds_an_item(reader):
    page = reader.go("/studio/search")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "text"
    page = reader.go("/studio/items")
    page.keyboard.type("SKU-0042")
    page.keyboard.press("Enter")
    page.wait_for_url("**/studio/items/SKU-0042")


def test_an_item_says_why_it_is_not_shown(reader, trained):
    page = reader.go("/studio/items/SKU-0042")
    page.get_by_label("User id").fill(trained.user)
    page.get_by_role("button", name="Why?").click()
    reader.settled()
    assert page.locator("#answer .notice").count() >= 1
    for name in ("numbers", "neighbours", "audience"):
        assert page.locator(f"#{name} .quiet >> text=One moment").count() == 0
