"""Five tasks of a merchandiser, done in the studio with nothing but its pages: clicks, fields typed into, seconds.

``python bench/studio_tasks.py`` makes a made-up shop in which much is going on (``studio_shop.py``), serves it, and
does each task from the overview on, in Chromium, which has to be on the path. A task whose answer is not on the page is
an AssertionError. Seconds are from the first click to the answer; they hold what the server and the browser take, not
what a person takes to read. The made-up shop knows no cities, genders or seasons: "autumn first for women in Osaka" is
"wool first for members of the club".
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table
from studio_shop import LivelyShop, served

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from studio_browser import Reader, chromium

ITEM, USER = "SKU-0145", "u0001"


@dataclass
class Task:
    """Somebody at a task; counts what they do.

    Attributes:
        reader: Their browser.
        clicks: On links, buttons and choices, and Enter.
        fields: That they typed into.
    """

    reader: Reader
    clicks: int = 0
    fields: int = 0

    def click(self, name: str, within: str = "main", role: str = "link") -> None:
        """Click a link or a button, and wait for what comes."""
        self.reader.click(name, within, role=role)
        self.clicks += 1

    def type(self, label: str, text: str, within: str = "main") -> None:
        """Type into a field."""
        self.reader.page.locator(within).first.get_by_label(label).first.fill(text)
        self.fields += 1

    def choose(self, label: str, text: str) -> None:
        """Choose of a list."""
        self.reader.page.locator("main").get_by_label(label).first.select_option(text)
        self.clicks += 1

    def enter(self) -> None:
        """Press Enter."""
        with self.reader.page.expect_navigation():
            self.reader.page.keyboard.press("Enter")
        self.reader.settled()
        self.clicks += 1

    def read(self, selector: str) -> str:
        """What is written there."""
        return " ".join(" ".join(self.reader.texts(selector)).split())


@dataclass(frozen=True)
class Case:
    """The shop in which tasks are done."""

    shop: LivelyShop
    api: httpx.Client


def why_not_shown(task: Task, case: Case) -> str:
    """Why is SKU-0145 not shown to u0001?"""
    task.click("Items", "nav")
    task.reader.page.keyboard.type(ITEM)
    task.fields += 1
    task.enter()
    task.type("User id", USER)
    task.click("Why?", "#for-person", "button")
    found = task.read("#answer .notice")
    shown = case.api.post("/v1/recommendations", json={"user_id": USER, "k": 10}).json()["items"]
    assert ITEM not in [one["item_id"] for one in shown]
    assert re.search("have it already|keeps it out|suit them better|behind the first|rules move it|shown it now", found)
    return found


def wool_first(task: Task, case: Case) -> str:
    """Put wool first for members of the club until Sunday."""
    today = datetime.now(UTC).date()
    sunday = (today + timedelta(days=6 - today.weekday())).isoformat()
    task.click("Rules", "nav")
    task.click("Put forward", "main", "button")
    task.type("Condition", "material = wool")
    task.type("Strength", "2")
    task.type("Until", sunday)
    task.type("Only for people with", "segment = club")
    task.click("Done", "main", "button")
    task.click("Before and after", "main", "button")
    tried = task.read("#preview p >> nth=0")
    assert re.search(r"\d+ of 500 people", tried), tried
    task.click("Save", "#rules-form", "button")
    rules = case.api.get("/v1/rules").json()["toml"]
    for line in ('boost = "material = wool"', 'for = "segment = club"', sunday):
        assert line in rules, rules
    return tried


def what_changed(task: Task, case: Case) -> str:
    """What changed since yesterday?"""
    task.click("Changes", "nav")
    since = datetime.now(UTC) - timedelta(days=1)
    page = task.reader.page
    found = [
        " ".join(one.locator("h2").inner_text().split())
        for one in page.locator("[data-test=change]").all()
        if datetime.fromisoformat(str(one.locator("time").first.get_attribute("datetime"))) > since
    ]
    assert sum("Rules changed" in one for one in found) >= 3, found
    assert any("Item changed SKU-0007" in one for one in found), found
    kinds = {re.sub(r" SKU-.*", "", one) for one in found}
    return f"{len(found)} changes: {', '.join(sorted(kinds))}"


def wrong_photos(task: Task, case: Case) -> str:
    """Which photos are wrong?"""
    task.click("Map", "nav")
    doubted = task.reader.values("[data-test=kind-photo] .told > li > article > .about > a", "href")
    names = [one.rpartition("/")[2] for one in doubted]
    assert set(case.shop.exchanged) <= set(names), (case.shop.exchanged, names)
    return f"{' and '.join(case.shop.exchanged)}, among {len(names)} in doubt"


def better_for_new(task: Task, case: Case) -> str:
    """Is the new generation better for new customers?"""
    task.click("Generations", "nav")
    task.click("What would it change?")
    page = task.reader.page
    row = page.locator("[data-test=quality-new]")
    assert row.count() == 1, task.read("#quality")
    found = " ".join(row.inner_text().split())
    assert re.search("better|worse|cannot tell|too few", found), found
    return found


TASKS: tuple[Callable[[Task, Case], str], ...] = (why_not_shown, wool_first, what_changed, wrong_photos, better_for_new)


def prepared(reader: Reader, api: httpx.Client) -> None:
    """What the tasks find done: a price that somebody changed today, and the map, which is made once a generation."""
    api.patch("/v1/items/SKU-0007", json={"attributes": {"price": 19.5}}).raise_for_status()
    reader.go("/studio/map")
    end = time.monotonic() + 300
    while reader.page.locator("#maps").count() == 0:
        assert time.monotonic() < end, "there never is a map"
        reader.page.wait_for_timeout(500)


def main() -> None:
    """Do the tasks and print what they took."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pictures", type=Path, help="a folder for a picture of each answer")
    pictures = options.parse_args().pictures
    table = Table("task", "clicks", "fields", "seconds", "found")
    with tempfile.TemporaryDirectory() as name:
        shop = LivelyShop(Path(name))
        with served(shop.shop) as address, chromium() as browser, httpx.Client(base_url=address, timeout=60) as api:
            reader = Reader(browser, address)
            reader.patience = 120.0
            prepared(reader, api)
            for number, do in enumerate(TASKS, 1):
                reader.go("/studio")
                task, began = Task(reader), time.perf_counter()
                found = do(task, Case(shop, api))
                took = time.perf_counter() - began
                table.add_row(str(do.__doc__), str(task.clicks), str(task.fields), f"{took:.1f}", found)
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                    reader.page.screenshot(path=pictures / f"{number}.png", full_page=True)
            assert (reader.complaints, reader.elsewhere) == ([], [])
            reader.close()
    Console().print(table)


if __name__ == "__main__":
    main()
