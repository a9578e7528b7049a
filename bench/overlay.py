"""What the events since a generation cost answers: a look, people with events, changed items; how soon they are seen.

``python bench/overlay.py path/to/.molar`` works on copies (hard links) beside the workspace, with events of its own.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from molar_indexes.generations import publish
from molar_indexes.recommender import Recommender
from molar_indexes.users import UserRecord
from molar_retrieval import rng
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec
from molar_retrieval.workspace.artefacts import Workspace

EVENTS, ITEMS, ASKED, BUSY = 100_000, 100_000, 300, 200
NOW = time.time_ns() // 1000
APPENDER = """
import sys, time
from pathlib import Path
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace
log = EventLog(Workspace.open(Path(sys.argv[1])))
for number, line in enumerate(sys.stdin):
    item, now = line.strip(), time.time_ns() // 1000
    event = {"event_id": f"o{number}", "event": "view", "user_id": "bench", "item_id": item, "timestamp": now}
    log.append([(1, event)])
    print(time.monotonic(), flush=True)
"""


@contextmanager
def scratch(workspace: Path) -> Iterator[Workspace]:
    """The same workspace without events, at another place."""
    with tempfile.TemporaryDirectory(dir=workspace.parent) as folder:
        there = Path(folder) / ".molar"
        shutil.copytree(workspace, there, copy_function=os.link, ignore=shutil.ignore_patterns("events"))
        yield Workspace.open(there)


def milliseconds(ask: Callable[[str], object], users: list[str]) -> dict[str, float]:
    """Median and 99th percentile, and the fastest."""
    taken = []
    for user in users:
        began = time.perf_counter()
        ask(user)
        taken.append(1000 * (time.perf_counter() - began))
    taken.sort()
    found = {"fastest": taken[0], "median": statistics.median(taken), "p99": taken[int(0.99 * len(taken))]}
    return {name: round(value, 3) for name, value in found.items()}


def people(workspace: Workspace, events: int = EVENTS) -> Iterator[tuple[str, object]]:
    """Answers before and after many people did something; how long a start takes then."""
    with Recommender.open(workspace.root) as recommender:
        store = recommender.generation.users
        known = [record.user_id for record in store.between(0, len(store)) if len(record.history)]
        items, draw = recommender.generation.table.item_ids(), rng.generator(0, "bench")
        quiet, busy = known[:ASKED], known[ASKED:]
        for user in quiet:
            recommender.query(user)
        yield "query, no events, ms", milliseconds(recommender.query, quiet)
        with closing(EventLog(workspace)) as log:
            rows = (
                {
                    "event_id": f"e{number}", "event": "view", "user_id": busy[draw.integers(len(busy))],
                    "item_id": items[draw.integers(len(items))], "timestamp": NOW - events + number,
                }
                for number in range(events)
            )  # fmt: skip
            log.append(enumerate(rows))
            yield f"query, {events:,} events of others, ms", milliseconds(recommender.query, quiet)
            overlay = recommender._following.present._overlay
            yield "of which the look, ms", milliseconds(lambda _: overlay.now(), quiet)
            state = overlay.now()
            yield "finding that somebody did nothing, ms", milliseconds(lambda u: overlay.person(state, u), quiet)
            asked = busy[:ASKED]
            yield "query, first after own events, ms", milliseconds(recommender.query, asked)
            yield "query, again, ms", milliseconds(recommender.query, asked)
            taken = []
            for number, user in enumerate(asked):
                one = {
                    "event_id": f"n{number}",
                    "event": "view",
                    "user_id": user,
                    "item_id": items[number % len(items)],
                }
                log.append([(1, one | {"timestamp": NOW})])
                began = time.perf_counter()
                recommender.query(user)
                taken.append(1000 * (time.perf_counter() - began))
            yield "query, right after another event, ms", round(statistics.median(taken), 3)
            rows = (
                {
                    "event_id": f"m{number}", "event": "view", "user_id": asked[number % ASKED],
                    "item_id": items[number % len(items)], "timestamp": NOW + number,
                }
                for number in range(BUSY * ASKED)
            )  # fmt: skip
            log.append(enumerate(rows))
            for user in asked:
                recommender.query(user)
            yield f"query, again, {BUSY} own events, ms", milliseconds(recommender.query, asked)
    began = time.perf_counter()
    with Recommender.open(workspace.root) as recommender:
        opened = time.perf_counter()
        recommender.query(busy[-1])
        first = time.perf_counter()
        yield (
            "opening, s; first answer of somebody with events, s",
            (round(opened - began, 3), round(first - opened, 3)),
        )


def seen_from_elsewhere(workspace: Workspace, count: int = 100) -> dict[str, float]:
    """Milliseconds from an acknowledgement in another process to an answer that knows the event."""
    with Recommender.open(workspace.root) as recommender:
        items = recommender.generation.table.item_ids()
        command = [sys.executable, "-c", APPENDER, str(workspace.root)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            taken = []
            for item in items[:count]:
                process.stdin.write(f"{item}\n")
                process.stdin.flush()
                acknowledged = float(process.stdout.readline())
                answer = recommender.query("bench")
                assert item not in [found.item_id for found in answer.items]
                taken.append(1000 * (time.monotonic() - acknowledged))
            process.stdin.close()
    return {"median": round(statistics.median(taken), 2), "most": round(max(taken), 2)}


def items(folder: Path, count: int = ITEMS) -> Iterator[tuple[str, object]]:
    """Conditions where the price of every item has changed since the generation, made up and in the embedded engine."""
    (folder / "shop").mkdir()
    workspace = Workspace.for_catalogue(folder / ".molar", folder / "shop")
    draw = rng.generator(0, "bench items")
    vectors, kinds = draw.normal(size=(count, 32)), draw.integers(0, 20, count)
    made = (
        IndexItem(n, f"i{n}", {"aligned": vectors[n].tolist()}, {"price": float(n % 100), "kind": f"k{kinds[n]}"})
        for n in range(count)
    )
    publish(
        workspace, backend="edge", spec=IndexSpec({"aligned": 32}, {"price": "float", "kind": "keyword"}), items=made,
        users=[UserRecord("u", draw.normal(size=32).tolist(), [0], times=[0])], popular=[], inputs={},
        parts={"part": (0, 31), "popularity": (31, 32)},
    ).close()  # fmt: skip
    cheap, other = "price < 10", "kind = k3"
    with Recommender.open(workspace.root) as recommender, closing(EventLog(workspace)) as log:
        for changed in (0, 1_000, 10_000, count):
            rows = (
                {
                    "event_id": f"{changed}-{n}", "event": "item_upsert", "item_id": f"i{n}", "timestamp": NOW,
                    "data": {"price": float((7 * n + changed) % 100), "stock": n % 50},
                }
                for n in range(changed)
            )  # fmt: skip
            log.append(enumerate(rows))
            began = time.perf_counter()
            recommender.query("u")
            read = time.perf_counter()
            recommender.query("u", where=cheap)
            judged = time.perf_counter()
            yield f"{changed:,} changed: read, first condition, s", (round(read - began, 3), round(judged - read, 3))
            for where in (None, other, cheap):
                found = milliseconds(lambda _, w=where: recommender.query("u", where=w), ["u"] * 20)
                yield f"{changed:,} changed, where {where}, ms", found
            one = {"event_id": f"one {changed}", "event": "item_upsert", "item_id": "i1", "timestamp": NOW}
            log.append([(1, one | {"data": {"price": 1.0}})])
            began = time.perf_counter()
            recommender.query("u", where=cheap)
            yield f"{changed:,} changed, and one more, ms", round(1000 * (time.perf_counter() - began), 1)
    began = time.perf_counter()
    with Recommender.open(workspace.root) as recommender:
        recommender.query("u")
        yield "opening with all of them, s", round(time.perf_counter() - began, 2)


def main(workspace: Path) -> None:
    """All of it, one line each."""
    with scratch(workspace) as copy:
        for name, value in people(copy):
            print(name, json.dumps(value))
        print("seen from another process, ms", json.dumps(seen_from_elsewhere(copy)))
    with tempfile.TemporaryDirectory() as folder:
        for name, value in items(Path(folder)):
            print(name, json.dumps(value))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
