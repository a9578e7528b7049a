"""What the analysis of an experiment takes: an event log of many visitors is made up, sealed, and analysed.

    python bench/experiment_analysis.py [--visitors 100000] [--days 14]

Prints seconds of the clock and of the processor, and by how much the peak of the memory grew: of a canary, of an A/B
stage with the past of its people read, and the same again, as a server does every half minute.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from molar_eval.experiments.analysis import analyse
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.experiments.assignment import arm_of
from molar_retrieval.experiments.definition import Experiment
from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace

_DAY = 86_400


def events(visitors: int, days: int, begun: int) -> Iterator[dict[str, Any]]:
    """Nine looks or carts of each visitor on up to three days; one in ten buys something, another one did so before."""
    drawn = np.random.default_rng(0)
    for number in range(visitors):
        user, number_of = f"u{number}", 0
        for _ in range(3):
            moment = begun + int(drawn.uniform(0, days) * _DAY)
            for kind in ("click", "click", "add_to_cart"):
                number_of += 1
                yield {
                    "event": kind, "event_id": f"{user}.{number_of}", "user_id": user, "timestamp": moment + number_of,
                    "item_id": f"i{drawn.integers(100)}", "request_id": f"r{user}.{moment}",
                }  # fmt: skip
        for at in (begun - 30 * _DAY, begun + days * _DAY - 60):
            if drawn.random() < 0.1:
                yield {
                    "event": "purchase", "event_id": f"{user}.{at}", "user_id": user, "timestamp": at + number % 59,
                    "item_id": f"i{drawn.integers(100)}", "value": float(drawn.lognormal(3)),
                }  # fmt: skip


def timed(what: str, work: Callable[[], Any]) -> Any:
    """Do it and say what it took."""
    clock, processor = time.perf_counter(), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = work()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(f"{what}: {clock:.2f} s, processor {processor:.2f} s, {grown} MB more", flush=True)
    return found


def main() -> None:
    """Make the log, seal it, analyse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=14)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        today = int(time.time()) // _DAY
        begun, until = (today - asked.days) * _DAY, today * _DAY * 1_000_000
        folder = Path(name) / "shop"
        folder.mkdir()
        (folder / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},item {n}\n" for n in range(100)))
        workspace = Workspace.for_catalogue(Path(name) / ".molar", folder)
        prepare_catalogue(folder, workspace)
        with closing(EventLog(workspace)) as log:
            timed("append", lambda: log.append(enumerate(events(asked.visitors, asked.days, begun))))
        with ExperimentStore(workspace, make=True) as store:
            for one in (Experiment("canary", canary=0.5), Experiment("ab", weeks=4)):
                store.start(one, "canary" if one.name == "canary" else "ab", begun * 1_000_000)
                units = [f"u{number}" for number in range(asked.visitors)]
                arms = {unit: arm_of(one, "ab", unit) for unit in units}
                first = begun * 1_000_000
                store.assign([Assignment(one.name, unit, arm, first) for unit, arm in arms.items() if arm])
                store.trigger(one.name, [(unit, first) for unit in units])
        for sealed in (False, True):
            if sealed:
                with closing(EventLog(workspace)) as log:
                    timed("compact", lambda: log.compact(today=today))
            for which in ("canary", "ab", "ab"):
                results = timed(f"{which}{', sealed' * sealed}", lambda which=which: analyse(workspace, which, until))
        print(results.effects[0], results.decision, results.problems)


if __name__ == "__main__":
    main()
