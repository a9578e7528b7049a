"""What experiments cost an answer beside its list: CPU time of its thread, with none that runs and with one.

``python bench/experiments.py path/to/.molar`` answers by a copy of the record that there is, which it does not change.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from molar_eval.experiments.arms import ListWanted
from molar_eval.experiments.assignment import Asker
from molar_eval.experiments.routing import Experimenting, clock
from molar_indexes.recommender import Recommender
from molar_retrieval.experiments.definition import AB, Arm, Experiment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import ExperimentSettings

_TIMES = 5_000


def timed(name: str, work: Callable[[], object]) -> None:
    """Print the CPU time of the thread that each call takes."""
    for _ in range(200):
        work()
    began = time.thread_time()
    for _ in range(_TIMES):
        work()
    print(f"{name}: {1e6 * (time.thread_time() - began) / _TIMES:.2f} µs")


def main(workspace: str) -> None:
    """Print what it takes to look whether one runs, and to answer and record within one."""
    with Recommender.open(workspace) as live, tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(workspace) / "workspace.json", folder)
        record, user = Workspace(Path(folder)), live.generation.users.between(0, 1)[0].user_id
        answer = live.query(user)
        wanted = ListWanted(lambda *_: answer, lambda *_: answer)
        experiments = Experimenting(record, live, lambda *_: live, ExperimentSettings(holdout=0.0))
        experiments.start()
        number = count()

        def ask(asker: Asker) -> None:
            experiments.record(experiments.answer(asker, wanted, clock()), 3.0)

        timed("none runs", lambda: experiments.running.present)
        with ExperimentStore(record, make=True) as store:
            store.start(Experiment("bench", salt="bench", treatment=Arm(options={"diversity": 0.5})), AB, clock())
        experiments.catch_up()
        timed("one runs, somebody known", lambda: ask(Asker(user)))
        timed("one runs, a session that is known", lambda: ask(Asker(session_id="one")))
        timed("one runs, somebody at first sight", lambda: ask(Asker(f"person {next(number)}")))
        experiments.close()


if __name__ == "__main__":
    main(sys.argv[1])
