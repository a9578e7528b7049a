"""What it takes to name people by pseudonyms: a question, a million ids of a file, events.

    python bench/pseudonyms.py [--workspace WORKSPACE --user ID] [--ids 1000000] [--events 20000]

Prints processor time, the least of five; with a workspace also that of one list, and the share of it that a question's
name takes, by ids and by pseudonyms.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from molar_indexes.recommender import Recommender
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.privacy.pseudonymisation import ensure_pseudonyms
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import PrivacySettings

_TIMES = 5


def seconds(work: Callable[[], Any], times: int = 1) -> float:
    """Of the processor, for one of ``times``."""
    least = float("inf")
    for _ in range(_TIMES):
        began = time.process_time()
        for _ in range(times):
            work()
        least = min(least, (time.process_time() - began) / times)
    return least


def made(folder: Path, name: str, ids: str) -> Workspace:
    """A workspace without anything but its names."""
    (folder / name / "shop").mkdir(parents=True)
    workspace = Workspace.for_catalogue(folder / name / ".molar", folder / name / "shop")
    keys = folder / "keys" if ids == "pseudonymous" else None
    os.environ["MOLAR_PRIVACY_KEY_FILE"] = str(folder / "keys")
    ensure_pseudonyms(workspace, PrivacySettings.model_validate({"ids": ids, "key_file": keys}))
    return workspace


def appended(workspace: Workspace, count: int) -> Callable[[], None]:
    """Events of as many people, new ones each time."""
    numbers = iter(range(_TIMES))

    def append() -> None:
        part = next(numbers)
        rows = ({"event_id": f"{part}:{n}", "event": "view", "user_id": f"u{n}", "item_id": "i"} for n in range(count))
        with closing(EventLog(workspace)) as log:
            log.append(enumerate({"timestamp": 1_700_000_000, **row} for row in rows))

    return append


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--user", default="u0500")
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=20_000)
    given = parser.parse_args()
    ids = pa.array([f"u{n}" for n in range(given.ids)])
    with tempfile.TemporaryDirectory() as folder:
        spaces = {name: made(Path(folder), name, name) for name in ("plain", "keyed")}
        asked = {
            name: seconds(lambda one=one: Pseudonymiser.of(one.root).key(given.user), 10_000)
            for name, one in spaces.items()
        }
        for name, one in spaces.items():
            print(f"{name}: a question {1e6 * asked[name]:.1f} µs")
            print(f"{name}: {len(ids):,} ids {seconds(lambda one=one: Pseudonymiser.of(one.root).users(ids)):.2f} s")
            print(f"{name}: an event {1e6 * seconds(appended(one, given.events)) / given.events:.1f} µs")
    if given.workspace is not None:
        with Recommender.open(given.workspace) as recommender:
            recommender.query(given.user)
            took = seconds(lambda: recommender.query(given.user), 100)
        shares = ", ".join(f"{name} {share / took:.2%}" for name, share in asked.items())
        print(f"a list {1e6 * took:,.0f} µs, of which a question's name takes: {shares}")


if __name__ == "__main__":
    main()
