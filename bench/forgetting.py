"""How long until nobody is answered by the past of somebody who is forgotten, in a server that runs.

``python bench/forgetting.py path/to/.molar`` works on a copy (hard links) beside the workspace, with events of its own,
of which all but the last day are sealed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from molar_indexes.generations import open_generation
from molar_retrieval import rng
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace

EVENTS, DAYS, ROUNDS = 100_000, 10, 5
DAY = 86_400
OWN = ("events", "serving", "experiments", "lock")
MOLAR = [sys.executable, "-c", "from molar_cli.app import main; main()"]


@contextmanager
def scratch(workspace: Path) -> Iterator[Workspace]:
    """The same workspace without events, at another place."""
    with tempfile.TemporaryDirectory(dir=workspace.parent) as folder:
        there = Path(folder) / ".molar"
        shutil.copytree(workspace, there, copy_function=os.link, ignore=shutil.ignore_patterns(*OWN))
        yield Workspace.open(there)


def filled(workspace: Workspace, users: list[str], items: list[str]) -> None:
    """An event log of some days, all but the last one sealed."""
    draw, now = rng.generator(0, "bench"), int(time.time())
    columns = (draw.integers(0, n, EVENTS).tolist() for n in (len(users), len(items), DAYS * DAY))
    with closing(EventLog(workspace)) as log:
        rows = (
            {"event_id": f"b{n}", "event": "view", "user_id": users[u], "item_id": items[i], "timestamp": now - ago}
            for n, (u, i, ago) in enumerate(zip(*columns, strict=True))
        )
        log.append(enumerate(rows))
        log.compact()


@contextmanager
def served(workspace: Path) -> Iterator[str]:
    """The address of `molar serve` in a process of its own."""
    command = [*MOLAR, "serve", "--port", "0", "--workspace", str(workspace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().partition(",")[0]
            while True:
                try:
                    asked(f"{address}/health/ready")
                    break
                except OSError:
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()


def asked(address: str, body: Any = None, method: str | None = None) -> Any:
    """What a server answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as told:
        return json.loads(told.read())


def personal(address: str, user: str) -> bool:
    """Whether somebody is answered by their past."""
    return bool(asked(f"{address}/v1/recommendations", {"user_id": user, "k": 10})["basis"] != "popularity")


def by_command(workspace: Path, address: str, user: str) -> tuple[float, float, float]:
    """Seconds until nobody is answered by their past, from the start of the command and of the list; and to its end."""
    began = time.perf_counter()
    with subprocess.Popen(
        [*MOLAR, "privacy", "forget", "-", "--later", "--workspace", str(workspace)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    ) as run:  # fmt: skip
        assert run.stdin is not None
        run.stdin.write(f"{user}\n")
        run.stdin.close()
        while personal(address, user):
            time.sleep(0.005)
        gone = time.perf_counter() - began
        listed = time.time() - (workspace / "suppressed.json").stat().st_mtime
        run.wait()
    return gone, listed, time.perf_counter() - began


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    with scratch(parser.parse_args().workspace.absolute()) as workspace:
        with open_generation(workspace) as generation:
            people = [user.user_id for user in generation.users.between(0, 2000)]
            items = [item.item_id for item in generation.index.fetch(range(1000))]
        filled(workspace, people, items)
        found: dict[str, list[float]] = {"command": [], "since the list": [], "command ends": [], "DELETE": []}
        with served(workspace.root) as address:
            for user, other in zip(people[:ROUNDS], people[ROUNDS : 2 * ROUNDS], strict=True):
                assert personal(address, user)
                assert personal(address, other)
                taken = by_command(workspace.root, address, user)
                for name, seconds in zip(("command", "since the list", "command ends"), taken, strict=True):
                    found[name].append(seconds)
                began = time.perf_counter()
                asked(f"{address}/v1/users/{other}", method="DELETE")
                assert not personal(address, other)
                found["DELETE"].append(time.perf_counter() - began)
        for name, all_ in found.items():
            print(f"{name:14} median {sorted(all_)[len(all_) // 2]:.2f} s, at most {max(all_):.2f} s")


if __name__ == "__main__":
    main()
