"""A shop on a device: size, whether its lists are the server's, what rounding would cost, how fast a browser is.

OMP_NUM_THREADS=1 python bench/device.py WORKSPACE [--histories N] [--loads N]

Chromium has to be on the path. It is given the folder by a server on the loopback, so that a load takes no network.
"""

import argparse
import functools
import gzip
import http.server
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

from molar_indexes.device.export import export_device
from molar_indexes.recommender import Recommender
from molar_indexes.sessions import SessionReader
from molar_indexes.users import UserRecord
from molar_retrieval.ranking import candidates
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.query import Query, ResolvedQuery
from molar_retrieval.ranking.ranker import Ranker

Matrix = npt.NDArray[np.float32]
K = 10
_LOOK: dict[str, Any] = {"box": None, "title_justify": "left", "caption_justify": "left", "min_width": 70}
LOAD = """async (first) => {
    const began = performance.now();
    const { load } = await import("./molar-device.js");
    globalThis.shop = await load("./");
    const loaded = performance.now();
    await globalThis.shop.recommend(first);
    return [loaded - began, performance.now() - loaded];
}"""
LISTS = """async (histories) => {
    const found = [];
    for (const history of histories) {
        const began = performance.now();
        const { items } = await globalThis.shop.recommend(history);
        found.push([performance.now() - began, items.map(({ item_id }) => item_id)]);
    }
    return found;
}"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def half(values: Matrix) -> Matrix:
    """As numbers of 16 bits have it."""
    return np.asarray(values).astype(np.float16).astype(np.float32)


def bytes_of(values: Matrix) -> Matrix:
    """As 8 bits a number have it, with a scale for each row."""
    rows = np.asarray(values)
    scale = np.abs(rows).max(axis=-1, keepdims=True) / 127
    return np.asarray(np.round(rows / np.where(scale > 0, scale, 1)) * scale, np.float32)


def rounded(store: ItemStore, by: Callable[[Matrix], Matrix], what: str) -> ItemStore:
    """The items with some of their numbers rounded."""
    if what == "item_item":
        return replace(store, sparse=replace(store.sparse, values=by(store.sparse.values[:, None])[:, 0]))
    if what == "all":
        return functools.reduce(
            lambda one, name: rounded(one, by, name), ("dense", "content", "als", "item_item"), store
        )
    return replace(store, **{what: by(getattr(store, what))})


def lists(ranker: Ranker, store: ItemStore, people: Sequence[UserRecord]) -> list[list[int]]:
    own = Ranker(ranker.index, store, ranker.slots, ranker.reranker)
    query = Query(k=K, explore=False)
    asked = [ResolvedQuery(query, user=one, hidden=frozenset(map(int, one.history))) for one in people]
    return [[placed.row for placed in listing.places] for listing in own.rank(asked)]


@contextmanager
def searching() -> Iterator[None]:
    """As a server answers of a shop whose vectors are too many to be scanned."""
    before, candidates.MOST_SCANNED = candidates.MOST_SCANNED, 0
    try:
        yield
    finally:
        candidates.MOST_SCANNED = before


def differing(found: Sequence[Any], right: Sequence[Any]) -> int:
    """How many lists are not the same."""
    return sum(own != other for own, other in zip(found, right, strict=True))


def rounding(recommender: Recommender, people: Sequence[UserRecord]) -> Table:
    """Of how many people the first ten change where numbers are rounded."""
    table = Table("rounded", ">16 bits", ">8 bits", title=f"of {len(people):,} lists change", **_LOOK)
    store, second = recommender.ranker.store, recommender.ranker.reranker
    right = lists(recommender.ranker, store, people)
    with searching():
        found = lists(recommender.ranker, store, people)
    table.caption = f"where the server searches instead of scanning: {differing(found, right):,}"
    for what in ("dense", "item_item", *(("content", "als") if second is not None else ()), "all"):
        row = [what]
        for by in (half, bytes_of):
            if what == "item_item" and by is bytes_of:
                row.append("–")  # each has a weight of its own
                continue
            some = half if what == "item_item" else by
            found = lists(recommender.ranker, rounded(store, some, what), people)
            row.append(f"{differing(found, right):,}")
        table.add_row(*row)
    return table


def sizes(folder: Path) -> Table:
    """What has to be loaded, as it is and as a server sends it that packs."""
    table = Table("file", ">MB", ">MB by gzip", title="size", **_LOOK)
    whole = np.zeros(2)
    for path in sorted(folder.iterdir(), key=lambda path: -path.stat().st_size):
        own = np.array([path.stat().st_size, len(gzip.compress(path.read_bytes(), 6))]) / 1e6
        whole += own
        if own[0] > 0.05:
            table.add_row(path.name, *(f"{value:.2f}" for value in own))
    table.add_row("all", *(f"{value:.2f}" for value in whole))
    return table


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def renderer(page: Page) -> tuple[float, float]:
    """Seconds of a processor that the process of a page has taken, and MB of memory that are its own."""
    session = page.context.browser.new_browser_cdp_session()  # type: ignore[union-attr]
    every = session.send("SystemInfo.getProcessInfo")["processInfo"]
    most = max((one for one in every if one["type"] == "renderer"), key=lambda one: one["cpuTime"])
    status = Path(f"/proc/{most['id']}/status").read_text()
    (anonymous,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    return most["cpuTime"], anonymous / 1e3


def in_browser(folder: Path, histories: list[Any], timed: list[Any], loads: int) -> tuple[Table, list[Any], list[Any]]:
    table = Table("", ">fastest", ">median", ">99 %", title="in Chromium, ms", **_LOOK)
    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        taken = []
        for _ in range(loads):
            page = browser.new_context().new_page()  # nothing is kept from one to the next
            page.goto(address + "device.json")
            taken.append(page.evaluate(LOAD.replace('"./', f'"{address}'), histories[0]))
            if len(taken) < loads:
                page.context.close()
        page.context.set_offline(True)
        before, _ = renderer(page)
        found = page.evaluate(LISTS, histories)
        after, memory = renderer(page)
        others = page.evaluate(LISTS, timed)
        browser.close()
    rows = {"load": [one for one, _ in taken], "first list": [one for _, one in taken], "list": [t for t, _ in found]}
    for name, own in rows.items():
        table.add_row(name, *(f"{value:,.1f}" for value in np.quantile(own, (0, 0.5, 0.99))))
    each = 1000 * (after - before) / len(histories)
    table.caption = f"of a processor {before:.1f} s for a load, {each:.1f} ms for a list; {memory:,.0f} MB of memory"
    return table, [ids for _, ids in found], [ids for _, ids in others]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--loads", type=int, default=5)
    said = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder, Recommender.open(said.workspace, follow=False) as recommender:
        began = time.process_time()
        made = export_device(recommender, Path(folder) / "device")
        console.print(f"{made.items:,} items, exported in {time.process_time() - began:.1f} s of a processor")
        console.print(sizes(made.folder))
        generation, ids = recommender.generation, recommender.generation.table.item_ids()
        everybody = (user for batch in generation.users.batches() for user in batch if len(user.history))
        users = list(islice(everybody, said.histories))
        named = [[ids[row] for row in user.history][-1000:] for user in users]
        timed = [
            [{"item_id": ids[row], "time": int(t)} for row, t in zip(user.history, user.times, strict=True)]
            for user in users
        ]
        table, found, others = in_browser(made.folder, named, timed, said.loads)
        console.print(table)
        right = [[item.item_id for item in recommender.query(session=one, k=K, explore=False).items] for one in named]
        stored = [[ids[row] for row in one] for one in lists(recommender.ranker, recommender.ranker.store, users)]
        for what, own, server in (("session", found, right), ("query of a user", others, stored)):
            console.print(f"lists that are not those of a {what}: {differing(own, server):,} of {len(own):,}")
        with recommender.answering() as answerer:
            reader = SessionReader(answerer.workspace, generation)
        console.print(rounding(recommender, [reader(list(user.history), list(user.times)) for user in users]))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
