"""What the figures by day take: an event log of a month is made up, sealed, and asked.

    python bench/daily_figures.py [--events 1000000] [--days 30]

Prints seconds of the clock and of the processor: before anything is sealed, the first time after that, when each
sealed day is read and kept, and the second time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from molar_eval.kpi.by_day import daily
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace

_DAY = 86_400
_ON_LIST = 10


def events(count: int, days: int, today: int) -> Iterator[dict[str, Any]]:
    """Lists of ten items, of which some are looked at, put into the cart or bought; times up to now."""
    drawn = np.random.default_rng(0)
    lists = count // (_ON_LIST + 2)
    moments = np.sort(drawn.integers((today - days + 1) * _DAY, today * _DAY + _DAY // 4, lists))
    for number, moment in enumerate(moments.tolist()):
        user, items = f"u{drawn.integers(20_000)}", [f"i{item}" for item in drawn.integers(0, 10_000, _ON_LIST)]
        common = {"user_id": user, "request_id": f"01K{number:023d}", "timestamp": moment}
        yield {
            "event": "impression", "event_id": f"s{number}", "list_id": ("home", "cart", "item")[number % 3],
            "items": [{"item_id": item, "position": place} for place, item in enumerate(items)], **common,
        }  # fmt: skip
        yield {"event": "view", "event_id": f"v{number}", "item_id": items[0], **common, "timestamp": moment + 5}
        price = {"value": 19.9, "transaction_id": f"t{number}"}
        yield {"event": "purchase", "event_id": f"p{number}", "item_id": items[1], **common, **price}


def timed(what: str, work: Callable[[], Any]) -> Any:
    """Do it and say what it took."""
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    print(f"{what}: {time.perf_counter() - clock:.2f} s, processor {time.process_time() - processor:.2f} s", flush=True)
    return found


def main() -> None:
    """Make the log, seal it, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="lines of the log")
    parser.add_argument("--days", type=int, default=30)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        today = int(time.time()) // _DAY - 1  # yesterday, so that no event is of the future
        (Path(name) / "shop").mkdir()
        workspace = Workspace.for_catalogue(Path(name) / ".molar", Path(name) / "shop")
        with closing(EventLog(workspace)) as log:
            timed("append", lambda: log.append(enumerate(events(asked.events, asked.days, today))))
            timed("nothing sealed", lambda: daily(workspace, asked.days, today))
            timed("again", lambda: daily(workspace, asked.days, today))
            log.append(enumerate([{**line, "event_id": "new"} for line in events(13, 1, today)][:1]))
            timed("again, after an event of today", lambda: daily(workspace, asked.days, today))
            timed("compact", lambda: log.compact(today=today))
        timed("first time", lambda: daily(workspace, asked.days, today))
        timed("second time", lambda: daily(workspace, asked.days, today))
        whole = timed("the last day alone", lambda: daily(workspace, 1, today))
        print(whole[0].figures)


if __name__ == "__main__":
    main()
