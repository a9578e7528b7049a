"""What trials took in a workspace, a line each, and what that says of trials to come.

A trial is foretold from the last one of the same model, settings, split and machine, and only where interactions are
about as many: by the root of how many times more, so that one that costs the same and one that grows with the log are
both within 22 %, which no other power is.
"""

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from molar_eval.model_runs import TrialRunner
from molar_eval.models.base import Model
from molar_eval.suite import Suite
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.activity_log import JsonLines
from molar_retrieval.workspace.resources import Took

_FILE = "taken.jsonl"
_MOST = 10_000
"""Lines that are looked at, the newest first."""
WITHIN = 1.5
"""How many times more or fewer interactions a former trial may have had."""


@dataclass(frozen=True)
class Expected:
    """What something would take.

    Attributes:
        took: By the clock and of the processors.
        interactions: Those of the trial that it is foretold from.
        date: When that was, as ``2026-11-28``.
    """

    took: Took
    interactions: int
    date: str


class TrialCosts:
    """What is known of a workspace's trials; ``root`` is its folder of evaluations, which may not exist.

    Attributes:
        foretold: What of all that was noted could have been known before.
        unknown: How much of it could not.
    """

    def __init__(self, root: Path) -> None:
        self._log = JsonLines(root / _FILE)
        self.foretold, self.unknown = Took(), 0

    def note_trial(self, runner: TrialRunner, model: Model, took: Took) -> None:
        """Keep what a trial took that was made now."""
        self._note(_trial(runner, model), len(runner.split.training), took)

    def trial(self, runner: TrialRunner, model: Model) -> Expected | None:
        """What a trial would take; None: nothing like it was made here."""
        return self._expected(_trial(runner, model), len(runner.split.training))

    def note_rest(self, suite: Suite, interactions: int, took: Took) -> None:
        """Keep what a run took beside its trials: splits, figures, statistics, the report."""
        self._note(_rest(suite), interactions, took)

    def rest(self, suite: Suite, interactions: int) -> Expected | None:
        """What a run would take beside its trials; None: the suite was not run here."""
        return self._expected(_rest(suite), interactions)

    def _note(self, what: str, interactions: int, took: Took) -> None:
        before = self._expected(what, interactions)
        if before is None:
            self.unknown += 1
        else:
            self.foretold += before.took
        record: dict[str, Any] = {"what": what, "machine": _machine(), "interactions": interactions}
        record |= {"seconds": round(took.seconds, 3), "processor": round(took.processor, 3)}
        self._log.append(record | {"date": datetime.now(UTC).date().isoformat()})

    def _expected(self, what: str, interactions: int) -> Expected | None:
        for one in self._known.get((what, _machine()), []):
            more = interactions / max(1, one["interactions"])
            if 1 / WITHIN <= more <= WITHIN:
                took = Took(one["seconds"], one["processor"]) * math.sqrt(more)
                return Expected(took, one["interactions"], one["date"])
        return None

    @cached_property  # so what is noted now is not known before
    def _known(self) -> Mapping[tuple[str, str], list[dict[str, Any]]]:
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for one in self._log.newest(_MOST):
            found.setdefault((one["what"], one["machine"]), []).append(one)
        return found


def _trial(runner: TrialRunner, model: Model) -> str:
    kind, split = type(model), runner.split
    key = [f"{kind.__module__}.{kind.__qualname__}", dict(model.settings), split.name, dict(split.settings), runner.k]
    return fingerprint.of_json([*key, runner.task.seen])


def _rest(suite: Suite) -> str:
    return fingerprint.of_json(suite.model_dump(mode="json"))


def _machine() -> str:
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return fingerprint.of_json([platform.node(), platform.machine(), os.cpu_count(), threads])
