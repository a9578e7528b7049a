"""A process that appends events, or compacts, and may be killed at any moment.

Arguments: workspace, first number, how many, and the file that gets the numbers of acknowledged events; ``compact``
as the second one compacts instead.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace

DAYS = 3


def event(number: int) -> dict[str, object]:
    """An event on one of three days in 2026."""
    time = datetime(2026, 1, 1 + number % DAYS, 12, tzinfo=UTC).isoformat()
    return {"event_id": f"e{number}", "event": "view", "user_id": f"u{number % 7}", "item_id": "i", "time": time}


if __name__ == "__main__":
    log = EventLog(Workspace.open(Path(sys.argv[1])))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if sys.argv[2] == "compact":
        while True:
            log.compact()
    first, count = int(sys.argv[2]), int(sys.argv[3])
    acknowledged = os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for start in range(first, first + count, 20):
        numbers = range(start, min(start + 20, first + count))
        log.append((n, event(n)) for n in numbers)
        os.write(acknowledged, "".join(f"{n}\n" for n in numbers).encode())
