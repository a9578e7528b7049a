"""``kill -9`` while events are appended and compacted: none acknowledged is lost, none is there twice."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from events_child import event

from molar_retrieval.data.event_log import EventLog
from molar_retrieval.workspace.artefacts import Workspace

TESTS = Path(__file__).resolve().parent


def killed(workspace: Path, *arguments: object, after: float) -> None:
    """Run a child and kill it so many seconds after it is ready."""
    command = [sys.executable, "events_child.py", str(workspace), *map(str, arguments)]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"ready\n", child.stderr.read().decode()
        time.sleep(after)
        child.send_signal(signal.SIGKILL)


def survive(folder: Path, kills: int) -> tuple[int, int]:
    """Kill appends and compactions in turn; how many events were acknowledged, and how many there are."""
    (folder / "shop").mkdir()
    workspace = Workspace.for_catalogue(folder / ".molar", folder / "shop")
    acknowledged, dice, begun = folder / "acknowledged", random.Random(3), 0
    for turn in range(kills):
        after = dice.uniform(0.005, 0.15)
        if turn % 2:
            killed(workspace.root, "compact", after=after)
        else:  # the former batch may be there without having been acknowledged: it is sent again
            killed(workspace.root, max(0, begun - 20), 1_000_000, acknowledged, after=after)
            begun = 1 + max(map(int, acknowledged.read_text().split()), default=-1) if acknowledged.exists() else 0
    log = EventLog(workspace)
    found = log.table()["event_id"].to_pylist()
    known = {f"e{number}" for number in acknowledged.read_text().split()}
    assert known <= set(found), f"{len(known - set(found))} acknowledged events are lost"
    assert len(found) == len(set(found)), f"{len(found) - len(set(found))} events are there twice"
    log.append((n, event(n)) for n in range(len(found) + 40))
    log.compact()
    again = log.table()["event_id"].to_pylist()
    assert len(again) == len(set(again))
    assert set(again) >= {f"e{n}" for n in range(len(found) + 40)}
    log.close()
    return len(known), len(found)
