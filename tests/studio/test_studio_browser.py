"""The studio in a browser: every screen, light and dark, wide and narrow, for everybody, and clicked through.

Screenshots go to the folder that ``MOLAR_TEST_PICTURES`` names. Those of the wide window are compared to how screens
looked, by the hashes in ``pictures.json``; ``MOLAR_TEST_LOOKED=1`` writes these anew, once somebody has looked.
"""

import json
import os
import re
import time
from pathlib import Path
from uuid import uuid4

import httpx
import imagehash
import pytest
from PIL import Image
from studio_browser import Reader, chromium
from updates import Days
from web_server import address_of

from molar_serving.auth import SCOPES, Keyring
from molar_serving.studio.app import NAVIGATION
from molar_serving.studio.roles import ROLES, scopes_of

pytestmark = pytest.mark.slow
PICTURES = os.environ.get("MOLAR_TEST_PICTURES")
LOOKS = Path(__file__).with_name("pictures.json")
ALIKE = 64
"""Bits of 256 of a perceptual hash that may differ: other fonts and days change fewer, another screen more."""


@pytest.fixture(scope="module")
def days(trained, tmp_path_factory):
    """A shop in which something happened: data were checked, a generation waits, an experiment is over."""
    days = Days(trained, tmp_path_factory.mktemp("browser"))
    events = []
    with days.shop.recommender() as recommender:
        for number, day in enumerate(range(6, -1, -1)):
            answer = recommender.query(trained.user, k=10)
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
    report = days.shop.events.append(events)
    assert report.refusals == []
    assert days.shop.update(stage=True).staged is not None
    days.shop.check(photos=False)
    days.shop.experiments.start("autumn", options={"diversity": 0.3})
    days.shop.experiments.stop("autumn", "enough was seen")
    return days


@pytest.fixture(scope="module")
def keys(days):
    ring = Keyring(days.shop.workspace)
    return {"program": ring.add("program", SCOPES)} | {role: ring.add(role, scopes_of(role)) for role in ROLES}


@pytest.fixture(scope="module")
def address(days, keys):
    with address_of(days.shop.workspace, days.folder.parent / "molar.toml") as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def cookies(browser, address, keys):
    """Cookies by role, once somebody of each has signed in."""
    found = {}
    for role in ROLES:
        reader = Reader(browser, address)
        page = reader.go("/studio/people")
        page.get_by_label("Key").fill(keys[role])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/studio/people")
        found[role] = reader.context.cookies()
        reader.close()
    return found


@pytest.fixture(scope="module")
def mapped(address, cookies):
    """The map is made, which its page asks for when somebody opens it."""
    end = time.monotonic() + 120
    with httpx.Client(
        base_url=address, timeout=30, cookies={one["name"]: one["value"] for one in cookies["viewer"]}
    ) as client:
        while 'id="map-making"' in client.get("/studio/map").text:
            assert time.monotonic() < end
            time.sleep(0.2)


@pytest.fixture
def reads(browser, address, cookies):
    """Opens the studio for a role; pages complain of nothing and ask nothing elsewhere."""
    readers = []

    def opened(role, **more):
        readers.append(Reader(browser, address, cookies=cookies[role], **more))
        return readers[-1]

    yield opened
    said = [(one.complaints, one.elsewhere) for one in readers]
    for one in readers:
        one.close()
    assert said == [([], []) for _ in readers]


@pytest.fixture
def reader(reads):
    return reads("admin")


@pytest.fixture(scope="module")
def api(address, keys):
    """The shop over HTTP, as a program asks it."""
    with httpx.Client(base_url=address, timeout=30, headers={"authorization": f"Bearer {keys['program']}"}) as client:
        yield client


def screens(trained):
    """Every screen by a name and its address."""
    return {
        **NAVIGATION,
        "item": f"/studio/items/SKU-0042?who={trained.user}",
        "found": f"/studio/search?text=lamp&who={trained.user}&beside=nobody",
        "person": f"/studio/people/{trained.user}",
        "shown": f"/studio/then/{trained.user}",
        "history": "/studio/rules/history",
        "experiment": "/studio/experiments/of/autumn",
        "signing-in": "/studio/session",
    }


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)], ids=["wide-light", "narrow-dark"])
def test_everybody_can_use_every_screen(reads, mapped, trained, width, dark, tmp_path):
    reader, folder = reads("admin", width=width, dark=dark), Path(PICTURES or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    found, looks = {}, {}
    for name, path in {**screens(trained), "new-experiment": "/studio/experiments/new"}.items():
        reader.go(path)
        found[name] = reader.barriers(), reader.overflow()
        reader.picture(folder / f"{name}-{width}.png")
        looks[name] = imagehash.phash(Image.open(folder / f"{name}-{width}.png"), hash_size=16)
    assert found == {name: ([], 0) for name in found}
    if not dark:
        _as_it_looked(looks)


def _as_it_looked(looks):
    """Screens look about as they did when somebody looked at them last."""
    if os.environ.get("MOLAR_TEST_LOOKED"):
        LOOKS.write_text(json.dumps({name: str(one) for name, one in looks.items()}, indent=1) + "\n", "utf-8")
    known = {name: imagehash.hex_to_hash(one) for name, one in json.loads(LOOKS.read_text("utf-8")).items()}
    apart = {name: one - known[name] for name, one in looks.items()}
    assert max(apart.values()) <= ALIKE, f"look at {PICTURES or 'MOLAR_TEST_PICTURES'}: {apart}"


@pytest.mark.parametrize(("language", "word"), [("de-DE", "Artikel"), ("ja-JP", "商品")])
def test_a_reader_is_spoken_to_in_their_language(reads, trained, language, word):
    reader = reads("viewer", width=375, language=language)
    for path in screens(trained).values():
        page = reader.go(path)
        assert page.locator("html").get_attribute("lang") == language[:2]
        assert reader.overflow() == 0, path
    assert word in reader.go("/studio/items").title()


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


def test_a_list_is_made_again_without_a_thing_of_the_history_and_put_back(reader, trained):
    page = reader.go("/studio/people")
    page.get_by_label("Id of a customer").fill(trained.user)
    reader.click("Open")
    before = listed(reader)
    assert len(before) == 10
    left = reader.values("#history li", "data-item")[0]
    reader.click("Leave", "#history", role="link")
    assert reader.values("#history li.left-out", "data-item") == [left]
    assert listed(reader) != before
    assert "without=" in page.url
    page.reload()
    without = listed(reader)
    assert without != before
    reader.click("Why", "#list", role="link")
    assert page.locator("#why-1 table").count() >= 1
    reader.click("Undo", "#supposed", role="link")
    assert listed(reader) == before
    reader.click("What if", "#list", role="link")
    assert before[0] not in listed(reader)


def listed(reader):
    """The items of a person's list, as the page shows them."""
    return reader.values("#list > ol > li", "data-item")


def test_what_somebody_was_shown_is_made_again(reader, trained):
    reader.go(f"/studio/people/{trained.user}")
    reader.click("What was shown", role="link")
    page = reader.page
    assert page.locator("#shown-lists li").count() == 7
    page.locator("#shown-lists a").first.click()
    reader.settled()
    assert reader.values("#verdict", "data-verdict") == ["same"]
    assert page.locator("#places > li").count() == 10


def test_a_generation_is_compared_made_live_and_rolled_back(reads, api):
    def live():
        return api.get("/v1/generations").json()["live"]

    first, reader = live(), reads("admin")
    reader.go("/studio/generations")
    page = reader.click("What would it change?", role="link")
    assert "Cannot tell yet" in page.locator("#quality .notice").inner_text()
    assert page.locator("[data-test=part]").count() >= 1
    reader.click("Make the second one live")
    assert live() != first
    assert "live" in page.locator("[data-test=generation]").first.inner_text()
    reader.click("Go back to the one before")
    assert live() == first


def test_a_finding_is_ticked_off_and_opened_again_by_undoing_it(reads):
    reader = reads("merchandiser")
    page = reader.go("/studio/data")
    (found, *others) = reader.values("[data-test=finding]", "id")
    page.locator(f"[id='{found}']").get_by_label("Note").fill("sent to the photographer")
    reader.click("Tick off", f"[id='{found}']")
    assert reader.values("[data-test=finding]", "id") == others
    reader.click("Ticked off", role="link")
    assert "sent to the photographer" in page.locator(f"[id='{found}']").inner_text()
    reader.click("Changes", "nav", role="link")
    assert "ticked off" in page.locator("[data-test=change]").first.inner_text()
    reader.click("Undo", "[data-test=change]")
    reader.go("/studio/data")
    assert reader.values("[data-test=finding]", "id") == [found, *others]


def test_the_overview_counts_and_each_figure_leads_to_what_it_was_made_from(reader):
    page = reader.go("/studio")
    assert page.locator("#figures .quiet >> text=/being counted/").count() == 0
    chart = page.locator("#figures .chart").first
    assert chart.locator("canvas").count() == 1
    chart.get_by_text("As a table").click()
    assert chart.locator("tbody tr").first.is_visible()
    for path in sorted({one for one in reader.values("main a", "href") if one.startswith("/studio")}):
        assert page.request.get(path).status == 200, path


def test_an_event_is_seen_as_it_arrives_and_a_refused_one_with_what_to_do(reader, api):
    page = reader.go("/studio/events")
    event = {"event": "view", "event_id": uuid4().hex, "timestamp": int(time.time()), "item_id": "SKU-0007"}
    sent = [event | {"user_id": "seen-live"}, event | {"user_id": "odd", "event_id": uuid4().hex, "event": "veiw"}]
    assert api.post("/v1/events", json={"events": sent}).json()["accepted"] == 1
    page.locator("#arrived").get_by_text("seen-live").wait_for()
    assert "veiw" in page.locator("#refused").inner_text()
    reader.click("Stop following", role="link")
    assert page.locator("#arrived").get_attribute("hx-get") is None


def test_a_viewer_is_offered_nothing_that_changes_something(reads, trained):
    def offered(role):
        asks, found = reads(role).page.request, {}
        for name, path in screens(trained).items():
            forms = re.findall(r'<form[^>]* method="post".*?</form>', asks.get(path).text(), re.S)
            actions = {re.search(r'action="([^"]+)"', one)[1] for one in forms if "<button" in one}
            found[name] = actions - {"/studio/search", "/studio/map/items", "/studio/language", "/studio/session/end"}
        return found

    viewer, merchandiser, admin = (offered(role) for role in ROLES)
    assert viewer == {name: set() for name in viewer} | {"signing-in": {"/studio/session"}}
    assert all(merchandiser[name] for name in ("data", "changes", "rules"))
    assert (bool(merchandiser["generations"]), bool(admin["generations"])) == (False, True)
    page = reads("viewer").go("/studio/data")
    assert page.get_by_role("button", name="Tick off").count() == 0
    token = page.locator("body").get_attribute("data-token")
    for path in sorted(set().union(*admin.values()) - {"/studio/session"}):
        assert page.request.post(path, form={"studio_token": token}).status == 403, path


def test_rules_are_made_moved_tried_saved_heeded_and_put_back(reads, api, trained):
    reader = reads("merchandiser")
    page = reader.go(f"/studio/people/{trained.user}")
    before = listed(reader)
    reader.click("Rules", "nav", role="link")
    reader.click("Hide items")
    page.locator("#editor").get_by_label("Id or words").fill(before[0])
    reader.click("Find", "#editor")
    page.locator(f"#editor input[name=items][value='{before[0]}']").check()
    reader.click("Done")
    reader.click("At most so many")
    page.get_by_label("How many").fill("2")
    page.locator("#editor select[name=field]").select_option("category")
    reader.click("Done")
    reader.click("Change: 2")
    page.get_by_label("Name of the rule").fill("a bit of everything")
    reader.click("Done")
    reader.click("Move up: 2")
    assert "a bit of everything" in reader.texts("#rules .said")[0]
    reader.click("Before and after")
    assert re.search(r"[1-9]\d* of \d+ people", " ".join(reader.texts("#preview p")))
    assert before[0] not in rules_of(api)
    reader.click("Save", "#rules-form")
    assert "saved=1" in page.url
    assert 0 < rules_of(api).index("a bit of everything") < rules_of(api).index(before[0])
    reader.go(f"/studio/people/{trained.user}")
    assert before[0] not in listed(reader)
    reader.go(f"/studio/items/{before[0]}")
    assert page.locator("#standing .notice.bad").count() == 1
    reader.click("Changes", "nav", role="link")
    reader.click("Undo", "[data-test=change]")
    assert before[0] not in rules_of(api)
    reader.go(f"/studio/people/{trained.user}")
    assert listed(reader) == before
    reader.go("/studio/rules/history")
    reader.click("Write this version again")
    assert before[0] in rules_of(api)


def rules_of(api):
    """The text of the rules that hold."""
    return api.get("/v1/rules").json()["toml"]


def test_items_are_chosen_by_dragging_over_the_map(reader, mapped):
    page = reader.go("/studio/map")
    page.locator("#map-tools").wait_for()
    box = page.locator("#maps canvas").first.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] * 0.6, steps=4)
    page.mouse.up()
    page.locator("#chosen article").first.wait_for()
    some = int(re.match(r"\d+", reader.texts("#chosen p")[0])[0])
    assert 0 < some < 100
    page.get_by_label("Items of one category").select_option(index=1)
    reader.click("Show")
    page.locator("#chosen").get_by_text(" of ").first.wait_for()
