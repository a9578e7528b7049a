"""A made-up shop in which much is going on, served: what the studio is tried and photographed on.

Three weeks of visits (by :class:`molar_retrieval.data.demo.traffic.TrafficSimulator`, by the known tastes of
made-up people), two photos exchanged, rules with a history, a generation that waits, and visits since it was made.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow.parquet as pq

import molar
from molar_retrieval.data.demo.catalogue import plan_shop
from molar_retrieval.data.demo.traffic import DAY, TrafficSimulator

ITEMS, USERS, SEED = 240, 700, 7
DAYS, SINCE = 21, 7  # of visits; of which so many since the newer generation was made
SETTINGS = (
    '[index]\nsegments = ["segment"]\n\n[align]\npreset = "fast"\n\n[costs]\nmachine_hour = 0.4\ncurrency = "EUR"\n'
)
RULES = tuple(f'[[rule]]\nname = "newer first"\nboost = "released >= 2022"\nby = {by}\n' for by in (0.2, 0.3))
_READY = 120.0
_MOLAR = [sys.executable, "-c", "from molar_cli.app import main; main()"]


class LivelyShop:
    """The shop.

    Attributes:
        shop: The shop itself.
        exchanged: Two items that have each other's photo.
        person: Somebody with both tastes and some purchases.
    """

    def __init__(self, folder: Path) -> None:
        made = molar.demo(folder, items=ITEMS, users=USERS, seed=SEED)
        settings = folder / "molar.toml"
        settings.write_text(SETTINGS, "utf-8")
        self.shop, self.person = molar.Shop(made.facts.folder, made.shop.workspace, settings), made.facts.example_user
        self.exchanged = exchange_photos(made.facts.folder)
        self.shop.embed()
        self.shop.align()
        plan = plan_shop(SEED, items=ITEMS, users=USERS)
        start = (int(time.time()) // DAY - DAYS) * DAY
        life = TrafficSimulator(plan, start, DAYS, SEED)
        self._live(life, range(DAYS - SINCE))
        self.shop.update(stage=True)
        self._live(life, range(DAYS - SINCE, DAYS))
        self.shop.check()

    def _live(self, life: TrafficSimulator, days: range) -> None:
        """Some days: each list is shown to whom it is for, and what they do with it is appended."""
        with self.shop.recommender() as recommender:
            for day in days:
                events = []
                for visit in life.visits(day):
                    user = life.shop.users[visit.user].user_id
                    answer = recommender.query(user, k=10, fallback="popular")
                    places = {item.item_id: item.propensity for item in answer.items if item.item_id in life.rows}
                    events += life.visit(visit, places, answer.request_id).events
                self.shop.events.append(events)


def exchange_photos(catalogue: Path) -> tuple[str, str]:
    """Exchange the photos of two items of other categories, one of each of the two that most are of; their ids."""
    items = pq.read_table(catalogue / "items.parquet").to_pylist()
    categories = sorted({one["category"] for one in items})
    first, second = (next(one for one in items if one["category"] == name and one["image"]) for name in categories[:2])
    a, b = catalogue / first["image"], catalogue / second["image"]
    there = a.read_bytes()
    shutil.copyfile(b, a)
    b.write_bytes(there)
    return first["item_id"], second["item_id"]


@contextmanager
def served(shop: molar.Shop) -> Iterator[str]:
    """The address of `molar serve`, once it answers and two rules were written, the second instead of the first."""
    options = ["--port", "0", "--workspace", str(shop.workspace)]
    process = subprocess.Popen([*_MOLAR, "serve", *options], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    address = process.stdout.readline().partition(",")[0]
    try:
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            end = time.monotonic() + _READY
            while client.get("/health/ready").status_code != 200:
                assert time.monotonic() < end, "it never answers"
                time.sleep(0.1)
            for text in RULES:
                client.put("/v1/rules", json={"toml": text}).raise_for_status()
        yield address
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
