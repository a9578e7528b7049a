"""SASRec with sizes and rates that validation chose, however far it had to go for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from molar_eval.models.base import Kind, Task
from molar_eval.models.sasrec import SASRec, SASRecSettings
from molar_eval.models.tuning import Fitted, Setting, edges
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint

Ladders = Mapping[str, Sequence[Any]]

LADDERS: Ladders = {
    "dropout": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "dim": (32, 64, 128, 256, 512),
    "learning_rate": (0.00025, 0.0005, 0.001, 0.002, 0.004),
}
"""What may be chosen of each setting, in order."""
START = SASRecSettings(epochs=200)
"""The published settings, until validation has not risen for ten epochs."""


class SASRecSearch:
    """SASRec, its settings climbed to from the published ones, a step at a time, as long as validation rises.

    The first seed chooses for all: other seeds find its trainings in the task's folder, and train what it chose.
    """

    name: str = "SASRec (searched)"
    kind: Kind = "baseline"
    stochastic: bool = True

    def __init__(self, start: SASRecSettings = START, ladders: Ladders = LADDERS) -> None:
        self.start, self.ladders = start, ladders
        self.settings: Mapping[str, Any] = {
            "start": start.model_dump(),
            "ladders": {key: list(values) for key, values in ladders.items()},
        }

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> Fitted:
        """Search, then train with the seed; DataError if nobody has two training interactions."""
        tried: list[dict[str, Any]] = []

        def judge(setting: Setting) -> float:
            facts = SASRec([SASRecSettings(**setting)]).fit(task, 0, progress).facts
            ndcg = float(facts["tried"][0]["ndcg@10"])
            tried.append({"setting": dict(setting), "ndcg@10": ndcg, "seconds": facts["fit_seconds"]})
            return ndcg

        chosen = climb(self.start.model_dump(), self.ladders, judge)
        fitted = SASRec([SASRecSettings(**chosen)]).fit(task, seed, progress)
        found = edges([{**chosen, key: value} for key, values in self.ladders.items() for value in values], chosen)
        search = {"tried": tried, "search_seconds": sum(one["seconds"] for one in tried)}
        return replace(fitted, facts={**fitted.facts, **search, **({"edge_of_grid": found} if found else {})})


def climb(start: Setting, ladders: Ladders, judge: Callable[[Setting], float]) -> Setting:
    """The setting from which no step up or down a ladder raises what ``judge`` says; each is judged once."""
    known: dict[str, float] = {}

    def value(setting: Setting) -> float:
        name = fingerprint.of_json(dict(setting))
        if name not in known:
            known[name] = judge(setting)
        return known[name]

    value(start)
    best, before = start, None
    while best != before:
        before = best
        for key, values in ladders.items():
            for way in (1, -1):
                best = _along(best, key, values, way, value)
    return best


def _along(best: Setting, key: str, values: Sequence[Any], way: int, value: Callable[[Setting], float]) -> Setting:
    at = values.index(best[key]) + way
    while 0 <= at < len(values) and value(step := {**best, key: values[at]}) > value(best):
        best, at = step, at + way
    return best
