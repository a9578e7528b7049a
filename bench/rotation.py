"""What a new key for the pseudonyms of a made-up workspace costs: `python bench/rotation.py FOLDER --people 1000000`.

The workspace has interactions (with the link that an alignment keeps), a generation with vectors and histories of
everybody, and an event log, most of it in sealed days. It has no items: a rotation touches nothing of them. Told are
seconds of the clock and of processors for the first key and for another one.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from molar_indexes.generations import KIND as GENERATIONS
from molar_indexes.generations import USERS
from molar_indexes.privacy.key_rotation import rotate
from molar_indexes.users import UserRecord, write_users
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.interactions import LOG_FILE, USERS_FILE, Interactions
from molar_retrieval.data.prepare_interactions import log_facts, write_tables
from molar_retrieval.ids import IdMap
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import link_or_copy
from molar_retrieval.workspace.settings import IndexSettings, PrivacySettings

_ITEMS, _EACH, _DIM, _DAYS = 10_000, 8, 128, 10
_DAY = 86_400


def main() -> None:
    """Make the workspace where there is none, rotate twice, tell what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="for the workspace and the keys; it must be new")
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    asked = parser.parse_args()
    workspace = Workspace(asked.folder / ".molar")
    workspace.root.mkdir(parents=True)
    _prepared(workspace, asked.people)
    _logged(workspace, asked.people, asked.events)
    os.environ["MOLAR_PRIVACY_KEY_FILE"] = str(asked.folder / "keys")
    settings = PrivacySettings(ids="pseudonymous", key_file=asked.folder / "keys")
    sizes = {path.name: path.stat().st_size >> 20 for path in workspace.root.rglob("*.sqlite")}
    told = [_rotated(workspace, settings) for _ in range(2)]
    print(json.dumps({"people": asked.people, "events": asked.events, "MiB": sizes, "first key, another": told}))


def _rotated(workspace: Workspace, settings: PrivacySettings) -> dict[str, float]:
    clock, processors = time.perf_counter(), time.process_time()
    rotate(workspace, settings, IndexSettings())
    seconds = {"wall": time.perf_counter() - clock, "processors": time.process_time() - processors}
    return {name: round(value, 1) for name, value in seconds.items()}


def _prepared(workspace: Workspace, people: int) -> None:
    """Interactions, an alignment that keeps them, a generation."""
    random, now = np.random.default_rng(0), int(time.time())
    item = random.integers(0, _ITEMS, people * _EACH).astype(np.int32)
    log = Interactions(
        users=IdMap([f"customer-{number * 7919 % 1_000_000_007:09d}" for number in range(people)]),
        items=IdMap([f"item-{number}" for number in range(_ITEMS)]),
        offsets=np.arange(0, len(item) + 1, _EACH, dtype=np.int64),
        item=item,
        timestamp=np.tile(np.arange(now - _EACH * _DAY, now, _DAY, dtype=np.int64)[:_EACH], people),
    )
    facts = log_facts(log)
    partial = workspace["interactions"].partial("one")
    write_tables(log, partial)
    folder = workspace["interactions"].publish(partial, Manifest("interactions", "one", facts=facts))
    partial = workspace["alignment"].partial("one")
    (partial / "seen").mkdir()
    for name in (LOG_FILE, USERS_FILE):
        link_or_copy(folder / name, partial / "seen" / name)
    workspace["alignment"].publish(partial, Manifest("alignment", "one"))
    partial = workspace[GENERATIONS].partial("one")
    vectors = random.standard_normal((997, _DIM)).astype(np.float32)
    write_users(partial / USERS, _records(log, vectors), dim=_DIM, items=_ITEMS)
    known: dict[str, Any] = {"people": facts["people"], "events": {"interactions": 2**40}}
    workspace[GENERATIONS].publish(partial, Manifest(GENERATIONS, "one", facts=known))


def _records(log: Interactions, vectors: np.ndarray) -> Iterator[UserRecord]:
    weights = np.full(_EACH, 0.5, np.float32)
    for row, name in enumerate(log.users.array.to_pylist()):
        own = slice(row * _EACH, (row + 1) * _EACH)
        sparse = SparseVector(np.unique(log.item[own]).tolist(), weights[: len(np.unique(log.item[own]))].tolist())
        yield UserRecord(name, vectors[row % len(vectors)], log.item[own], sparse, {}, log.timestamp[own])


def _logged(workspace: Workspace, people: int, events: int) -> None:
    """Events of some days; all but those of today are sealed."""
    random, now = np.random.default_rng(1), int(time.time())
    who, back = random.integers(0, people, events), random.integers(0, _DAYS * _DAY, events)
    with closing(EventLog(workspace)) as log:
        kinds = ("view", "click", "purchase")
        rows = (
            {
                "event_id": f"event-{number}",
                "event": kinds[number % 3],
                "user_id": f"customer-{int(who[number]) * 7919 % 1_000_000_007:09d}",
                "session_id": f"session-{number // 4}",
                "item_id": f"item-{number % _ITEMS}",
                "timestamp": now - int(back[number]),
            }
            for number in range(events)
        )
        log.append(enumerate(rows, 1))
        log.compact()


if __name__ == "__main__":
    main()
