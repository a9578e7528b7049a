"""What it takes to judge lists by a log of what was shown: ``python bench/beforehand.py --workspace .molar``.

A copy of the workspace answers people of its own on several days, as ``molar serve`` does, and each place is clicked
with a chance of its item's own. What is printed are CPU seconds: to read the log, to value molar's lists on it as
``molar evaluate --impressions events`` does once a model is fitted, and to judge arms of an experiment beforehand.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np

from molar_eval.kpi.impressions import Impressions, logged_impressions
from molar_eval.kpi.off_policy import evaluate_policy
from molar_eval.kpi.prelaunch import CandidateVerdict, verdict_beforehand
from molar_eval.kpi.slates import evaluate_slates
from molar_indexes.comparison import sample
from molar_indexes.recommender import Recommender
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.experiments.definition import Arm
from molar_retrieval.rng import derive_seed
from molar_retrieval.workspace.artefacts import Workspace

Found = TypeVar("Found")
DAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
ARMS = {
    "itself": Arm(), "nothing": Arm("nothing"), "popular": Arm("popular"),
    "more diverse": Arm(options={"diversity": 0.5}),
}  # fmt: skip


def chance(item_id: str) -> float:
    """That a place with an item is clicked: .02 to .18."""
    return 0.02 + 0.16 * (derive_seed(0, "bench", item_id) % 1000) / 1000


def live(root: Path, requests: int, days: int) -> None:
    """Lists are answered and shown, and some of their places clicked."""
    random = np.random.default_rng(1)
    with Recommender.open(root) as recommender, closing(EventLog(Workspace.open(root))) as log:
        people = sample(recommender.generation.users, requests // days)
        for day in range(days):
            recommender.now, events = DAY + timedelta(days=day), []
            for person in people:
                answer = recommender.query(person, fallback="popular")
                events.append(answer.impression(at=recommender.now))
                of_list = {"user_id": person, "request_id": answer.request_id, "timestamp": recommender.now.isoformat()}
                events += [
                    {
                        "event_id": f"{answer.request_id} {item.rank}",
                        "event": "click",
                        "item_id": item.item_id,
                        **of_list,
                    }
                    for item in answer.items
                    if random.random() < chance(item.item_id)
                ]
            if refused := log.append(enumerate(events, 1)).refused:
                raise AssertionError(f"{refused} events were refused")


def timed(name: str, work: Callable[[], Found], about: Callable[[Found], str]) -> Found:
    """Print the CPU seconds of some work, and something about what came of it."""
    began = time.process_time()
    found = work()
    print(f"| {name} | {time.process_time() - began:.2f} | {about(found)} |", flush=True)
    return found


def main() -> None:
    """Print a line for each step."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workspace", type=Path, required=True)
    options.add_argument("--requests", type=int, default=1000)
    options.add_argument("--days", type=int, default=2)
    given = options.parse_args()
    print("| step | CPU s | |\n|---|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / ".molar"
        shutil.copytree(given.workspace, root, symlinks=True, ignore=shutil.ignore_patterns("events", "evaluation"))
        timed("answer and show", lambda: live(root, given.requests, given.days), lambda _: f"{given.requests:,} lists")
        place = Workspace.open(root)

        def read() -> Impressions:
            return logged_impressions(place)[0]

        log = timed("read the log", read, lambda found: f"{len(found):,} places, {found.reward.mean():.3f} clicked")
        # The policy that shows what was certain, and every second item of those that were drawn.
        target = ((log.propensity == 1) | (log.item % 2 == 0)).astype(float)
        timed("value places", lambda: evaluate_policy(log, target), lambda found: f"{len(found.values)} estimates")
        timed("value lists", lambda: evaluate_slates(log, target), lambda found: f"{found.requests:,} requests")
        for name, arm in ARMS.items():

            def judge(arm: Arm = arm) -> CandidateVerdict:
                return verdict_beforehand(place, Arm(), arm, harm=0.1)

            timed(f"judge {name}", judge, lambda found: f"{found.outcome}: {'; '.join(found.why)}")


if __name__ == "__main__":
    main()
