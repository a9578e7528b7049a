"""The page of `molar demo --serve`: what it is made of, who visits, and that lists change as people act."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from browser import Browser, installed
from copies import copy_workspace
from starlette.testclient import TestClient
from typer.testing import CliRunner
from web_server import client_of, service_of, until_ready

from molar.shop import Shop
from molar.sources import Demo
from molar_retrieval.data.demo import DemoFacts, plan_shop
from molar_retrieval.data.demo.traffic import DAY, TrafficSimulator
from molar_retrieval.errors import SettingsError
from molar_serving.app import application
from molar_serving.auth import Keyring
from molar_serving.storefront.app import PLACES, Feed, Storefront, Visitors, cast, open_shop

PATIENT = {"OMP_NUM_THREADS": "1", "MOLAR_SERVE_DEADLINE": "10"}
OPEN = """
import sys, molar
from pathlib import Path
from molar.sources import Demo
from molar_retrieval.data.demo import DemoFacts
from molar_serving.storefront.app import open_shop
folder, workspace, items, users = sys.argv[1:]
facts = DemoFacts(Path(folder), 7, int(items), int(users), 0, "", "")
say = lambda address: print(address, flush=True)
open_shop(Demo(molar.Shop(Path(folder), Path(workspace)), facts), say, lambda address: None, minutes=1)
"""


@pytest.fixture(scope="module")
def plan(trained):
    return plan_shop(7, items=trained.items, users=160)


@pytest.fixture(scope="module")
def feed():
    return Feed()


@pytest.fixture(scope="module")
def people(plan):
    return cast(plan)


@pytest.fixture(scope="module")
def client(trained, plan, people, feed, tmp_path_factory):
    """A client of the demo shop, in this process."""
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("storefront") / ".molar")
    page = Storefront(trained.shop, plan, people, feed, 2e9)
    app = application(service_of(workspace), page.routes)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        until_ready(client)
        yield client


def visitors_of(client, plan, people, feed, seed=7):
    life = TrafficSimulator(plan, int(time.time()) // DAY * DAY, 1, seed)
    return Visitors(client, life, people, feed, seed=seed, pace=0)


def test_the_page_comes_with_all_that_it_names_and_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "style=" not in page.text
    assert "<script>" not in page.text
    named = set(re.findall(r'(?:src|href)="(/[^"]*)"', page.text))
    kinds = {path: client.get(path).headers["content-type"].partition(";")[0] for path in named}
    assert set(kinds.values()) == {"text/css", "text/javascript", "text/html", "image/svg+xml", "application/json"}
    for path in named - {"/openapi.json", "/studio"}:
        assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z]+\.", client.get(path).text)
    program = client.get("/shop/shop.js").text
    told = client.post("/v1/recommendations", json={"anonymous_id": "nobody", "k": 3}).json()
    assert all(f"  {part}: " in program for item in told["items"] for part in item["parts"])
    assert set(re.findall(r'\$\("([\w-]+)"\)', program)) <= set(re.findall(r'id="([\w-]+)"', page.text))


def test_the_shop_has_its_items_with_photos_and_its_people(client, trained, plan):
    shop = client.get("/shop/shop.json").json()
    assert len(shop["items"]) == trained.items
    assert shop["places"] == PLACES
    photos = [item for item in shop["items"] if item["photo"]]
    assert len(photos) == sum(item.has_photo for item in plan.items)
    photo = client.get(f"/shop/photos/{photos[0]['item_id']}")
    assert (photo.content[:3], photo.headers["content-type"]) == (b"\xff\xd8\xff", "image/jpeg")
    assert all(person["likes"] for person in shop["people"])
    assert {"user_id"} in [person["sent"].keys() for person in shop["people"]]
    assert {"anonymous_id"} in [person["sent"].keys() for person in shop["people"]]


@pytest.mark.parametrize("path", ["/shop/photos/..%2f..%2fitems.parquet", "/shop/nothing", "/shop/..%2fpages.py"])
def test_nothing_else_is_read(client, path):
    assert client.get(path).status_code == 404


def test_the_page_is_for_this_machine_alone(client):
    for path in ("/", "/shop/shop.json", "/shop/feed"):
        told = client.get(path, headers={"host": "shop.example"})
        assert (told.status_code, told.text) == (403, "this shop is for this machine alone")


def test_molar_serve_has_no_page(trained, tmp_path):
    with client_of(copy_workspace(trained.workspace, tmp_path / ".molar")) as client:
        assert client.get("/shop/shop.json").status_code == 404
        assert client.get("/").json()["name"] == "molar"


def test_visitors_act_by_the_api_alone_and_see_their_lists_change(client, plan, people, feed):
    visitors_of(client, plan, people, feed).run(60, 25)
    happened = client.get("/shop/feed").json()["happened"]
    assert [one["n"] for one in happened] == list(range(1, len(happened) + 1))
    acted = [one for one in happened if one["event"] in ("click", "purchase")]
    assert len(acted) > 5
    assert sum(one["changed"] for one in acted) > 0
    assert all(one["milliseconds"] > 0 for one in acted)
    assert client.get("/shop/feed", params={"after": happened[-1]["n"]}).json()["happened"] == []
    who = {person.name: person for person in people}
    for one in [one for one in acted if one["event"] == "purchase"]:
        told = client.post("/v1/recommendations", json={**who[one["who"]].sent, "k": 50}).json()
        assert told["known"]
        assert one["item_id"] not in [item["item_id"] for item in told["items"]]


def test_the_same_seed_sends_the_same_people(client, plan, people):
    names = []
    for _ in range(2):
        feed = Feed()
        visitors_of(client, plan, people, feed, seed=3).run(60, 6)
        names.append([one.who for one in feed.since(0) if one.event == "impression"])
    assert names[0] == names[1]
    assert len(set(names[0])) > 1


def test_visitors_leave_by_themselves_or_when_they_are_told(client, plan, people, feed):
    before = len(feed.since(0))
    visitors_of(client, plan, people, feed).run(0, 1_000)
    stopped = visitors_of(client, plan, people, feed)
    stopped.stop()
    stopped.run(60, 1_000)
    assert len(feed.since(0)) == before
    assert not stopped.until_ready()


def test_people_of_the_smallest_shop():
    people = cast(plan_shop(7, items=40, users=20))
    assert len({person.name for person in people}) == len(people) >= 4


@pytest.fixture(scope="module")
def opened(trained, tmp_path_factory):
    """The demo shop as a program, with its visitors, and its address."""
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("opened") / ".molar")
    command = [sys.executable, "-c", OPEN, str(trained.shop), str(workspace), str(trained.items), "160"]
    shop = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | PATIENT)
    assert shop.stdout is not None
    address = shop.stdout.readline().strip()
    with httpx.Client(base_url=address, trust_env=False) as client:
        until_ready(client)
    yield shop, address
    shop.kill()
    shop.wait()
    shop.stdout.close()


@pytest.mark.skipif(installed() is None, reason="no Chromium")
def test_in_a_browser_what_one_does_changes_the_list_at_once(opened):
    _, address = opened
    with Browser(390, 844, dark=True) as browser:
        browser.go(address)
        browser.wait(f"document.querySelectorAll('#list .card').length === {PLACES}")
        first = browser.run("document.querySelector('#list .card').dataset.item")
        for _ in range(60):  # by keyboard alone
            browser.press("Tab")
            if browser.run("document.activeElement.matches('#list .buy')"):
                break
        browser.press("Enter")
        told = browser.wait("document.getElementById('took').textContent")
        assert re.match(r"(\d of 8 changed|same items) · \d+\sms from event to list", told)
        ids = browser.run("[...document.querySelectorAll('#list .card')].map((one) => one.dataset.item)")
        assert first not in ids
        browser.wait("document.querySelector('#feed .photo') !== null")
        browser.run("document.getElementById('search').focus()")
        browser.type("lavender")
        browser.wait("document.getElementById('found').textContent.startsWith('the best ')")
        browser.run("[...document.querySelectorAll('.person')].at(-1).click()")
        browser.wait("document.getElementById('title').textContent.startsWith('For ')")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.complaints == []


def test_the_program_ends_by_sigterm_with_its_visitors(opened):
    shop, address = opened
    with httpx.Client(base_url=address, trust_env=False) as client:
        end = time.monotonic() + 30
        while not client.get("/shop/feed").json()["happened"]:
            assert time.monotonic() < end, "nobody comes"
            time.sleep(0.1)
    shop.send_signal(signal.SIGTERM)
    assert shop.wait(20) == 0


def test_what_the_command_refuses(tmp_path):
    from molar_cli.app import app

    done = CliRunner().invoke(app, ["demo", str(tmp_path / "demo"), "--serve", "--days", "3"])
    assert done.exit_code == 2
    assert not (tmp_path / "demo").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a screen")
@pytest.mark.parametrize(("screen", "wanted", "opened"), [(":0", True, 1), ("", True, 0), (":0", False, 0)])
def test_a_browser_is_opened_where_it_can_be_seen(screen, wanted, opened, monkeypatch, capsys):
    from molar_cli.commands import demo
    from molar_cli.console import Console
    from molar_cli.session import Session

    def answers(made, listening, ready, **asked):
        assert asked == {"minutes": 3, "port": 0}
        listening("http://127.0.0.1:1")
        ready("http://127.0.0.1:1")

    seen = []
    monkeypatch.setattr("molar_serving.storefront.app.open_shop", answers)
    monkeypatch.setattr("webbrowser.open", seen.append)
    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    demo._open(Session(Path(), Console()), None, 3, 0, wanted)
    assert seen == ["http://127.0.0.1:1"] * opened
    assert "The shop is open at http://127.0.0.1:1" in capsys.readouterr().out


def test_a_shop_with_keys_is_not_opened(trained, tmp_path):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    Keyring(workspace).add("page", ["answer"])
    facts = DemoFacts(trained.shop, 7, trained.items, 160, 0, "", "")
    with pytest.raises(SettingsError, match="asks without a key"):
        open_shop(Demo(Shop(trained.shop, workspace), facts), print, print)


def test_every_file_of_the_page_is_in_the_package():
    from importlib import resources

    parts = Path(str(resources.files("molar_serving.storefront"))) / "static"
    assert {file.name for file in parts.iterdir()} == {"shop.html", "shop.css", "shop.js", "shop.svg"}
