"""What people take again: habits beside personal frequency and item neighbours, on validation of one cut in time.

    python bench/repeat_consumption.py path/to/.molar

The workspace has a log with times, and content. Models are fitted before a first moment and asked until a second
one, by which `molar evaluate --suite temporal --seen show` chooses; nothing after the second one, where its test
begins, is looked at. Of molar there is the preset `instant`.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from molar_eval.cases import Cases, Mask, Scores
from molar_eval.metrics import accuracy
from molar_eval.models.base import EvaluationTask, Scoring
from molar_eval.models.baselines import ItemKNN, PersonalFrequency
from molar_eval.models.ours import Molar
from molar_eval.ranking import rank
from molar_eval.splits import Split, make_split
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.als import open_log
from molar_retrieval.models.repeat_consumption import RepeatConsumption, fit_repeat_consumption
from molar_retrieval.ranking.objectives import NEXT_ITEM, NEXT_ITEM_SEEN
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.resources import Timer
from molar_retrieval.workspace.settings import MolarSettings, with_preset

Finish = Callable[[Scores, Mask, Interactions], Scores]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("workspace", type=Path)
    workspace = Workspace.open(asked.parse_args().workspace)
    log = open_log(workspace).strongest
    split = make_split("temporal", log, {"repeats": True})
    training = split.training
    began = Timer()
    repeats = fit_repeat_consumption(training)
    print(f"{len(training):,} interactions before, {len(split.validation):,} people asked")
    if repeats is None:
        print("next to nothing is taken again: there are no habits")
        return
    took = began.took
    print(f"learned in {took.processor:.1f} s of a processor: {np.round(repeats.numbers, 2).tolist()}")
    everything = np.ones(log.n_items, bool)
    task = EvaluationTask(training, split.validation, everything, None, "show", Path(mkdtemp()))
    later = all_until(split)
    for model in (PersonalFrequency(), ItemKNN()):
        fitted = model.fit(task, 0)
        tell(f"{model.name} {fitted.facts['chosen']}", fitted.scores, split, later)
    tell("habits without the tendencies of items", without_tendency(repeats).scores, split, later)
    tell("repeat_consumption", repeats.scores, split, later)
    options = with_preset(MolarSettings(), "instant")
    molar = Molar(workspace, task.folder, options).fit(task, 0)
    for objective in (NEXT_ITEM, NEXT_ITEM_SEEN):
        scorer = replace(molar, objective=objective)
        tell(f"molar (instant), weights for {objective.name!r}", scorer.scores, split, later, scorer.finish)


def all_until(split: Split) -> Cases:
    """All that people took between the two moments, by what they had before the first one."""
    before = split.history.select(split.history.timestamp < split.facts["t2"])
    share = 1 - float(np.mean(before.timestamp >= split.facts["t1"]))
    cases = make_split("temporal", before, {"repeats": True, "train": share / 2, "validation": share / 2})
    return next(one for name, one in cases.tests.items() if name.startswith("all"))


def without_tendency(repeats: RepeatConsumption) -> RepeatConsumption:
    return replace(repeats, tendency=np.where(np.isfinite(repeats.tendency), 0, repeats.tendency).astype(np.float32))


def tell(name: str, scores: Scoring, split: Split, later: Cases, finish: Finish | None = None) -> None:
    figures = []
    for cases in (split.validation, later):
        everything = np.ones(split.history.n_items, bool)
        ranks = rank(cases, scores, k=10, candidates=everything, seen="show", finish=finish).ranks
        figures.append(accuracy(ranks, cases.offsets, (10,))["ndcg@10"].mean())
    print(f"{name:60}  next item {figures[0]:.4f}   all items {figures[1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
