"""How long pages of the studio take: `python bench/studio_pages.py WORKSPACE`.

Every screen and every part that a page asks for by itself is asked for, once to warm up and then five times, in this
process and over no socket. Printed are milliseconds by the clock and of the processor: of the first time, and the
median of the others. Nothing is changed but what a server writes for itself; give it a copy.
"""

import argparse
import statistics
import time
from pathlib import Path

from starlette.testclient import TestClient

from molar.shop import Shop
from molar_serving.app import application
from molar_serving.service import Service
from molar_serving.studio.app import NAVIGATION

TIMES, READY = 5, 120.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("workspace", type=Path)
    workspace = arguments.parse_args().workspace
    with TestClient(application(Service(Shop(None, workspace))), base_url="http://127.0.0.1") as client:
        end = time.monotonic() + READY
        while client.get("/health/ready").status_code != 200:
            assert time.monotonic() < end, "it never got ready"
            time.sleep(0.1)
        print(f"{'page':28} {'first ms':>9} {'CPU':>7} {'then ms':>9} {'CPU':>7}")
        for name, (path, part) in pages(workspace).items():
            (first, *others) = [asked(client, path, part) for _ in range(1 + TIMES)]
            wall, cpu = (statistics.median(one[side] for one in others) for side in (0, 1))
            print(f"{name:28} {first[0]:9.0f} {first[1]:7.0f} {wall:9.0f} {cpu:7.0f}", flush=True)


def pages(workspace: Path) -> dict[str, tuple[str, bool]]:
    """Addresses by name, and whether it is a part of a page."""
    with Shop(None, workspace).recommender() as recommender:
        person = recommender.generation.users.between(0, 1)[0].user_id
        item = recommender.query(person, k=1).items[0].item_id
    parts = {name: f"/studio/item/{name}?item_id={item}" for name in ("numbers", "neighbours", "audience")}
    whole = {
        **NAVIGATION,
        "person": f"/studio/people/{person}",
        "what somebody was shown": f"/studio/then/{person}",
        "item": f"/studio/items/{item}",
        "item, for somebody": f"/studio/items/{item}?who={person}",
        "items found": "/studio/items?q=a",
        "a new experiment": "/studio/experiments/new",
    }
    return {
        **{name: (path, False) for name, path in whole.items()},
        "overview: figures": ("/studio/overview/figures", True),
        "experiment: how long": ("/studio/experiments/plan", True),
        **{f"item: {name}": (path, True) for name, path in parts.items()},
    }


def asked(client: TestClient, path: str, part: bool) -> tuple[float, float]:
    """Milliseconds of a request by the clock and of the processor."""
    began, cpu = time.perf_counter(), time.process_time()
    answer = client.get(path, headers={"hx-request": "true"} if part else {})
    took = 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
    return took


if __name__ == "__main__":
    main()
