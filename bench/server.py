"""What a server costs beside the embedded engine: by default one on loopback that stands for it, as the tests have it.

python bench/server.py --workspace DIR [--users N]

Behind that one is qdrant-client's in-process mode: no graphs, shards or short copies. Measured is our own share and the
client's: points made and sent, conditions translated, answers read; and counted is what goes over the wire for a query.
`python bench/server.py --workspace DIR --url URL` measures on a real one.
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from molar_indexes.backends import build_index
from molar_indexes.generations import open_generation
from molar_indexes.recommender import Recommender
from molar_indexes.server.client import connect
from molar_indexes.server.collections import remove
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.opening import served
from molar_indexes.server.push import PushReport, publish
from molar_indexes.users import UserRecord
from molar_retrieval.ranking import candidates
from molar_retrieval.ranking.filters import Exists
from molar_retrieval.ranking.index_protocol import IndexItem
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings

NOT_MEASURED = "not measured on a real server: network, graphs, shards, short copies, several clients at once"
QUICK: dict[str, Any] = {"rerank": False, "rules": False, "explore": False}


@dataclass(frozen=True)
class _Server:
    name: str
    url: str
    fake: Any = None  # which counts, where it is one

    def counts(self) -> tuple[int, int, int]:
        """Requests so far, bytes sent and received."""
        if self.fake is None:
            return 0, 0, 0
        return len(self.fake.asked), sum(one.size for one in self.fake.asked), self.fake.answered


@contextmanager
def standing_in(protocol: str) -> Iterator[_Server]:
    """The tests' server, asked by REST or gRPC."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from qdrant_fake import fake_qdrant
    from qdrant_grpc_fake import fake_both

    with (fake_qdrant if protocol == "REST" else fake_both)() as fake:
        yield _Server(f"stand-in, {protocol}", fake.url, fake)


@contextmanager
def pushed(workspace: Workspace, url: str) -> Iterator[tuple[PushReport, Recommender]]:
    """The workspace's live generation under a name of its own on a server."""
    settings = IndexSettings(url=url, collection="molar.bench", timeout=60.0)
    server = ServerConfig.of(settings)
    assert server is not None
    connection = connect(server)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the in-process mode says what it does not do
        with open_generation(workspace) as generation:
            report = publish(connection, generation, settings)
        with Recommender(workspace, served(connection, workspace)) as recommender:
            yield report, recommender
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
    """What was measured, what the embedded engine takes, the ratio, and what goes over the wire where it is counted."""
    if url is not None:
        return _rows(workspace, users, _Server(f"Qdrant at {url}", url))
    found = []
    for protocol in ("REST", "gRPC"):
        with standing_in(protocol) as server:
            found += _rows(workspace, users, server)
    return found


def _rows(workspace: Workspace, users: int, server: _Server) -> list[list[str]]:
    found = []
    with Recommender.open(workspace.root) as mine, pushed(workspace, server.url) as (report, theirs):
        rate, own = report.sent / report.seconds, embedded_rate(workspace)
        found.append(
            [f"upload, points/s, {server.name}", f"{rate:,.0f}", f"embedded {own:,.0f}", f"{rate / own:.2f}", ""]
        )
        people = [user for user in next(mine.generation.users.batches(2 * users)) if len(user.history)][:users]
        condition = Exists(next(iter(mine.generation.spec.fields)))
        asked: list[tuple[str, int, dict[str, Any]]] = [
            ("query by score", candidates.MOST_SCANNED, {}),
            ("query by score, all of it asked of the index", 0, {}),
            ("query with a condition", candidates.MOST_SCANNED, {"where": condition}),
        ]
        for name, scanned, options in asked:
            with patch.object(candidates, "MOST_SCANNED", scanned):
                here = milliseconds(partial(mine.query, **QUICK, **options), people)
                before = server.counts()
                there = milliseconds(partial(theirs.query, **QUICK, **options), people)
                sent = [(now - then) / len(people) for now, then in zip(server.counts(), before, strict=True)]
            shown = [f"{median:.2f}, 99 % within {most:.1f}" for median, most in (there, here)]
            wire = (
                f"{sent[0]:.1f} requests, {sent[1] / 1000:,.1f} kB there, {sent[2] / 1000:,.1f} back" if sent[0] else ""
            )
            ratio = f"{there[0] / here[0]:.1f}"
            found.append([f"{name}, ms, {server.name}", shown[0], f"embedded {shown[1]}", ratio, wire])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What a server costs.")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    table = Table(title_justify="left", box=None)
    for column in ("what", "measured", "compared to", "ratio", "a query"):
        table.add_column(column)
    for row in rows(Workspace.open(arguments.workspace), arguments.users, arguments.url):
        table.add_row(*row)
    Console(highlight=False, width=200).print(table)
    if arguments.url is None:
        Console(highlight=False, width=160).print(NOT_MEASURED)


if __name__ == "__main__":
    main()
