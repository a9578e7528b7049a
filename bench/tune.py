"""What `molar tune` brings on a test that it never sees.

    python bench/tune.py CATALOGUE [--workspace DIR] [--split "last day"] [--preset fast] [--minutes 120] [--seeds 3]

A split's training log is tuned on by its own validation, half of whose people choose and half confirm. Then
the test is asked once about the settings as they were and once about those that were found: molar is trained with both,
with each seed, on the whole training log and validation. Differences are of scores averaged over seeds, paired by
person. All that was computed is kept in the workspace: a killed run goes on, and a longer one tunes for longer.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import molar
from molar.aligning import prepare_log
from molar_eval.metrics import accuracy
from molar_eval.model_runs import TrialRunner
from molar_eval.models.base import EvaluationTask
from molar_eval.models.content_variants import link
from molar_eval.models.ours import Molar, as_held_out
from molar_eval.splits import check_leaks, make_split
from molar_eval.statistics import averaged, clustered_intervals, paired_permutation
from molar_eval.tuning.result import TuningResult, headline, lines_of, sentences
from molar_eval.tuning.search import tune
from molar_retrieval.data.prepare_interactions import write_log
from molar_retrieval.models.als import open_log
from molar_retrieval.progress import Notes
from molar_retrieval.reports.wording import p_value, signed
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

METRICS = ("ndcg@10", "recall@10")
MEMORY = 256 << 20


class Told(Notes):
    """Prints what is worth telling."""

    def note(self, message: str) -> None:
        print(message, flush=True)


def prepared(catalogue: Path, root: Path, settings: MolarSettings) -> Workspace:
    """A workspace with content vectors and the whole log."""
    molar.Shop(catalogue, root).embed()
    workspace = Workspace.open(root)
    prepare_log(workspace, settings, Told())
    return workspace


def runner_of(workspace: Workspace, split_name: str, options: dict[str, object]) -> TrialRunner:
    """A split of the log, its tests not yet looked at."""
    split = make_split(split_name, open_log(workspace).strongest, options)
    check_leaks(split)
    place = workspace.root / "evaluation"
    task = EvaluationTask(
        training=split.training,
        validation=split.validation,
        candidates=np.ones(split.training.n_items, bool),
        content=None,
        seen="hide",
        folder=place / "models" / split.save(place / "splits").name,
    )
    return TrialRunner(split, task, 10, place / "trials", MEMORY)


def tuned(workspace: Workspace, runner: TrialRunner, settings: MolarSettings, minutes: float) -> TuningResult:
    """A search in a workspace that has the split's training log and validation, and nothing else of the log."""
    place = Workspace.for_catalogue(runner.task.folder / "tuned", workspace.catalogue)
    for kind in ("catalogue", "content"):
        link(workspace, place, kind)
    inputs = {"catalogue": workspace["catalogue"].require()[1].fingerprint}
    write_log(place, as_held_out(runner.task, settings.split.validation_users), inputs)
    return tune(place, settings, minutes=minutes, progress=Told())


def with_changes(settings: MolarSettings, result: TuningResult) -> MolarSettings:
    """The settings with what a search found."""
    sections = {name: getattr(settings, name) for name in result.changes}
    changed = {
        name: type(section).model_validate({**section.model_dump(), **result.changes[name]})
        for name, section in sections.items()
    }
    return settings.model_copy(update=changed)


def main() -> None:
    """Tune, then print a line for each test and metric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("--workspace", type=Path, default=Path("tune") / ".molar")
    parser.add_argument("--split", default="leave-one-out", help="leave-one-out, temporal or last day")
    parser.add_argument("--options", type=json.loads, default={}, help="of the split, as JSON")
    parser.add_argument("--preset", default="fast", help="what defaults and search have in common")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    settings = MolarSettings.model_validate({"align": {"preset": asked.preset}})
    asked.workspace.parent.mkdir(parents=True, exist_ok=True)
    workspace = prepared(asked.catalogue, asked.workspace, settings)
    runner = runner_of(workspace, asked.split, asked.options)
    result = tuned(workspace, runner, settings, asked.minutes)
    print(f"\n{headline(result)}.", *sentences(result), *lines_of(result.changes), "", sep="\n")
    if not result.changes:
        return
    print(f"| test of {runner.split.name} | metric | {asked.preset} | tuned | difference (95 %) | p |")
    print("|---|---|---:|---:|---:|---:|")
    both = [settings, with_changes(settings, result)]
    models = [Molar(workspace, workspace.root / "evaluation" / "content", one) for one in both]
    trials = [[runner.run(model, seed, Told()) for seed in range(asked.seeds)] for model in models]
    for test, cases in runner.split.tests.items():
        scores = []
        for runs in trials:
            found = [accuracy(run.ranked[test].ranks, cases.offsets, (10,)) for run in runs]
            scores.append(averaged([np.stack([one[metric] for metric in METRICS], axis=1) for one in found]))
        before, after = scores
        p = paired_permutation(after - before, cases.user)
        intervals = clustered_intervals(after - before, cases.user)
        for n, metric in enumerate(METRICS):
            ends = f"{signed(intervals[n].low)} to {signed(intervals[n].high)}"
            means = f"{before[:, n].mean():.4f} | {after[:, n].mean():.4f} | {signed(intervals[n].mean)} ({ends})"
            print(f"| {test} | {metric} | {means} | {p_value(float(p[n]))} |", flush=True)


if __name__ == "__main__":
    main()
