"""What a server costs beside the embedded engine, with qdrant-client's in-process mode: no network, no graphs.

python bench/server.py --workspace DIR [--users N]

Measured is our own share and the client's: points made and sent, conditions translated, answers read. What a real
server adds is not: network and HTTP, its graphs, shards and short copies of vectors, and what several clients at once
do to it. `python bench/server.py --workspace DIR --url URL` measures on one.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from qdrant_client import QdrantClient
from rich.console import Console
from rich.table import Table

from molar_indexes.backends import build_index
from molar_indexes.generations import open_generation
from molar_indexes.recommender import Recommender
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.connect import Connection, connect
from molar_indexes.server.opening import served
from molar_indexes.server.published import remove
from molar_indexes.server.push import PushReport, publish
from molar_indexes.users import UserRecord
from molar_retrieval.config import IndexSettings
from molar_retrieval.expressions import Exists
from molar_retrieval.index import IndexItem
from molar_retrieval.ranking import candidates
from molar_retrieval.workspace import Workspace

NOT_MEASURED = "not measured on a real server: network, graphs, shards, short copies, several clients at once"


@contextmanager
def pushed(workspace: Workspace, url: str | None) -> Iterator[tuple[PushReport, Recommender]]:
    """The workspace's live generation on a server of its own, or under a name of its own on the one at ``url``."""
    settings = IndexSettings(url=url or "http://in-process", collection="molar.bench", timeout=60.0)
    server = ServerConfig.of(settings)
    assert server is not None
    connection = connect(server) if url else Connection(QdrantClient(":memory:"), server)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the in-process mode says what it does not do
        with open_generation(workspace) as generation:
            at_once = settings.uploads if url else 1  # in process, writers would wait for each other
            report = publish(connection, generation, settings.model_copy(update={"uploads": at_once}))
        with Recommender(workspace, served(connection, workspace)) as recommender:
            yield report, recommender
            if url:
                remove(connection)


def embedded_rate(workspace: Workspace) -> float:
    """Points a second that the embedded engine takes, graphs included where it builds some."""
    with open_generation(workspace) as generation:
        spec, names = generation.spec, [*generation.spec.dims, *generation.spec.sparse]
        stored = generation.index.fetch(range(len(generation.index)), vectors=names)
    items = [IndexItem(i.row, i.item_id, i.vectors, i.payload, i.sparse) for i in stored]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        build_index(Path(folder) / "index", "edge", spec, items)
        return len(items) / (time.perf_counter() - began)


def milliseconds(ask: Callable[[str], Any], users: Sequence[UserRecord]) -> tuple[float, float]:
    """Median and 99th percentile of one question."""
    ask(users[0].user_id)
    times = []
    for user in users:
        began = time.perf_counter()
        ask(user.user_id)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def rows(workspace: Workspace, users: int = 200, url: str | None = None) -> list[list[str]]:
    """What was measured, beside the embedded engine, and the ratio."""
    where = f"Qdrant at {url}" if url else "qdrant-client in process"
    found = []
    with Recommender.open(workspace.root) as mine, pushed(workspace, url) as (report, theirs):
        rate, own = report.sent / report.seconds, embedded_rate(workspace)
        found.append([f"upload, points/s, {where}", f"{rate:,.0f}", f"embedded {own:,.0f}", f"{rate / own:.2f}"])
        people = [user for user in next(mine.generation.users.batches(2 * users)) if len(user.history)][:users]
        condition = Exists(next(iter(mine.generation.spec.fields)))
        asked: list[tuple[str, int, dict[str, Any]]] = [
            ("query by score", candidates.MOST_SCANNED, {}),
            ("query by score, all of it asked of the index", 0, {}),
            ("query with a condition", candidates.MOST_SCANNED, {"where": condition}),
        ]
        for name, scanned, options in asked:
            with patch.object(candidates, "MOST_SCANNED", scanned):
                here, there = (
                    milliseconds(partial(one.query, rerank=False, rules=False, **options), people)
                    for one in (mine, theirs)
                )
            shown = [f"{median:.2f}, 99 % within {most:.1f}" for median, most in (there, here)]
            found.append([f"{name}, ms, {where}", shown[0], f"embedded {shown[1]}", f"{there[0] / here[0]:.1f}"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What a server costs.")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    table = Table(title_justify="left", box=None)
    for column in ("what", "measured", "compared to", "ratio"):
        table.add_column(column)
    for row in rows(Workspace.open(arguments.workspace), arguments.users, arguments.url):
        table.add_row(*row)
    Console(highlight=False, width=160).print(table)
    if arguments.url is None:
        Console(highlight=False, width=160).print(NOT_MEASURED)


if __name__ == "__main__":
    main()
