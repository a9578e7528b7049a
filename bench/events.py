"""How many events a second the log takes, each to survive a loss of power, and what reading and sealing them takes.

python bench/events.py [--events N] [--folder DIR]

Measured is the whole way of an append in one process: dictionaries checked and inserted, the commit waited for until
the disk has it (`synchronous=FULL`). "alone" is one event a commit, "batches" are 1,000 a commit, "threads" are 64
writers of one event each, which share commits. The folder should be on the disk that a shop would use.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH, THREADS = 1_000, 64


def event(prefix: str, number: int) -> dict[str, object]:
    """An event of one of 1,000 users in January 2026."""
    moment = (START + timedelta(minutes=number % 40_000)).isoformat()
    who, item = f"u{number % 1000}", f"i{number % 3000}"
    row = {"event_id": f"{prefix}{number}", "event": "view", "user_id": who, "item_id": item, "timestamp": moment}
    return row | {"list_id": "home", "position": number % 10, "request_id": f"r{number // 10}"}


def seconds(work: Callable[[], object]) -> float:
    """What some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, default=None)
    said = parser.parse_args()
    table = Table("what", "events", "events/s")
    with tempfile.TemporaryDirectory(dir=said.folder) as folder:
        (Path(folder) / "shop").mkdir()
        log = EventLog(Workspace.for_catalogue(Path(folder) / ".molar", Path(folder) / "shop"))

        def batches(prefix: str, count: int, size: int) -> None:
            for start in range(0, count, size):
                log.append((n, event(prefix, n)) for n in range(start, min(start + size, count)))

        def refused(count: int) -> None:
            for number in range(count):
                log.append([(number, event("r", number) | {"event": "veiw"})])

        def threads(count: int) -> None:
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(lambda n: log.append([(n, event("t", n))]), range(count)))

        few = max(1, said.events // 50)
        ways: list[tuple[str, int, Callable[[], object]]] = [
            ("alone", few, lambda: batches("a", few, 1)),
            ("threads", few * 5, lambda: threads(few * 5)),
            ("batches", said.events, lambda: batches("b", said.events, BATCH)),
            ("alone, all refused", few, lambda: refused(few)),
            ("batches, all repeated", said.events, lambda: batches("b", said.events, BATCH)),
            ("read in order", said.events + 6 * few, log.table),
            ("compact", said.events + 6 * few, log.compact),
            ("read in order, sealed", said.events + 6 * few, log.table),
        ]
        for name, count, work in ways:
            table.add_row(name, f"{count:,}", f"{count / seconds(work):,.0f}")
        log.close()
    Console().print(table)


if __name__ == "__main__":
    main()
