"""Prequential evaluation: policies of updating, step by step through time."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from molar_eval.metrics import accuracy
from molar_eval.model_runs import Trial
from molar_eval.models.base import EvaluationTask
from molar_eval.models.baselines import baselines
from molar_eval.models.content_variants import link
from molar_eval.models.prequential import RETRAINED, Arm, WindowStart
from molar_eval.modules import of_making
from molar_eval.ranking import Ranked, rank
from molar_eval.report.schema import Estimate, WalkArm, WalkResult, WalkStep
from molar_eval.results import estimate
from molar_eval.splits import Walk
from molar_eval.statistics import clustered_ratio
from molar_eval.suite import Suite
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare_interactions import write_log
from molar_retrieval.models.alignment import align
from molar_retrieval.models.refresh import refresh
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import for_owner, write_atomically
from molar_retrieval.workspace.resources import Took
from molar_retrieval.workspace.settings import MolarSettings

_CODE = ("molar_eval.models.prequential", "molar_eval.prequential")


@dataclass(frozen=True, eq=False)
class WalkTrial:
    """An arm's whole walk: its lists and ranks in all cases, and what learning cost at each step."""

    trial: Trial
    costs: Sequence[Took]


@dataclass(frozen=True, eq=False)
class WalkRunner:
    """A walk made ready for arms, which start from one training that they share.

    ``base`` has the catalogue and its content vectors, ``options`` are those of the first training, ``task`` is what
    models may see besides the past. Lists have length ``k``, ``memory`` are bytes for scores, below ``root`` steps are
    kept.
    """

    walk: Walk
    base: Workspace
    options: MolarSettings
    task: EvaluationTask
    k: int
    root: Path
    memory: int

    def run(self, arm: Arm, progress: Progress = SILENT) -> WalkTrial:
        """Walk; steps that were walked before with the same data, settings, code and libraries are read.

        A step that was killed begins again from what the one before left, so that its cost is that of a whole one.

        Raises:
            DataError: If nothing is left to train on.
        """
        first = self._started(progress)
        folder = self.root / f"{arm.name.replace(' ', '-')}-{self._name(arm)[:16]}"
        steps = [_read(folder, number) for number in range(len(self.walk.steps))]
        cached = all(step is not None for step in steps)
        previous = first
        for number, found in enumerate(steps):
            place = folder / _named(number)
            if found is None:
                steps[number] = self._step(arm, number, place, previous, progress)
                if number:
                    shutil.rmtree(folder / _named(number - 1), ignore_errors=True)
            previous = Workspace(place)
        done = [step for step in steps if step is not None]
        key = next(iter(self.walk.split.tests))
        trial = Trial(
            seed=0,
            facts={},
            fit_seconds=sum(step.cost.seconds for step in done),
            score_seconds={key: sum(step.score_seconds for step in done)},
            ranked={key: Ranked.joined([step.ranked for step in done])},
            cached=cached,
        )
        return WalkTrial(trial, [step.cost for step in done])

    def _step(self, arm: Arm, number: int, place: Path, previous: Workspace, progress: Progress) -> "WalkedStep":
        step = self.walk.steps[number]
        past = self.walk.past(step.begin)
        shutil.rmtree(place, ignore_errors=True)
        data = replace(self.task, training=past, folder=place / "model")
        window = WindowStart(self._workspace(place, past), previous, data, self.walk.past(self.walk.start))
        scorer, cost = arm.advance(window, progress)
        began = time.perf_counter()
        ranked = rank(
            self.walk.cases_of(step),
            scorer.scores,
            k=self.k,
            candidates=self.task.candidates,
            finish=scorer.finish,
            memory=self.memory,
            progress=progress,
        )
        found = WalkedStep(ranked, cost, time.perf_counter() - began)
        _write(place, found)
        return found

    def _started(self, progress: Progress) -> Workspace:
        """The workspace of the first training."""
        place = self.root / f"first-{self._name()[:16]}"
        workspace = self._workspace(place, self.walk.past(self.walk.start))
        align(workspace, self.options, progress=progress)
        refresh(workspace, progress)
        return workspace

    def _workspace(self, place: Path, log: Interactions) -> Workspace:
        workspace = Workspace.for_catalogue(place, self.base.catalogue)
        for kind in ("catalogue", "content"):
            link(self.base, workspace, kind)
        write_log(workspace, log, {"catalogue": workspace["catalogue"].require()[1].fingerprint})
        return workspace

    def _name(self, arm: Arm | None = None) -> str:
        content = self.base["content"].require()[1].fingerprint
        key = [self.walk.split.fingerprint, self.walk.start, content, self.k, self.task.candidates.tobytes().hex()]
        key += [self.options.model_dump(mode="json", include={"split", "als", "align"}), of_making(*_CODE)]
        return fingerprint.of_json([*key, *([] if arm is None else [arm.name, dict(arm.settings)])])


@dataclass(frozen=True, eq=False)
class WalkedStep:
    """What came of one step."""

    ranked: Ranked
    cost: Took
    score_seconds: float


def _named(number: int) -> str:
    return f"step-{number:03d}"


def _write(place: Path, step: WalkedStep) -> None:
    save_file(step.ranked.to_tensors(), place.with_suffix(".safetensors"))
    for_owner(place.with_suffix(".safetensors"))
    record = {**asdict(step.cost), "score_seconds": step.score_seconds}
    write_atomically(place.with_suffix(".json"), json.dumps(record))


def _read(folder: Path, number: int) -> WalkedStep | None:
    """A step that was walked before; None where it was not, or not to its end."""
    record = folder / f"{_named(number)}.json"
    if not record.exists():
        return None
    facts = json.loads(record.read_text("utf-8"))
    ranked = Ranked(**load_file(record.with_suffix(".safetensors")))
    return WalkedStep(ranked, Took(facts["seconds"], facts["processor"]), facts["score_seconds"])


def walk_result(walk: Walk, arms: Mapping[str, WalkTrial], suite: Suite) -> WalkResult:
    """The walk by arm; the share that is kept has an interval over users, all of whose cases are drawn together.

    Ways to go on with an alignment keep a share of training it anew, at a share of the cost; baselines do not.
    """
    cases, key = walk.cases, next(iter(walk.split.tests))
    going_on = set(arms) - {RETRAINED, *baselines()} if RETRAINED in arms else set()
    values = {
        name: accuracy(one.trial.ranked[key].ranks, cases.offsets, suite.cutoffs)[suite.primary]
        for name, one in arms.items()
    }

    def kept(name: str) -> Estimate | None:
        if name not in going_on or not values[RETRAINED].any():
            return None
        return estimate(clustered_ratio(values[name], values[RETRAINED], cases.user, resamples=suite.resamples))

    def share(name: str, of: Callable[[Took], float]) -> float | None:
        if name not in going_on:
            return None
        own, whole = (sum(map(of, arms[one].costs)) for one in (name, RETRAINED))
        return own / whole

    moments = np.array([walk.start, *(step.begin for step in walk.steps)])
    before = np.searchsorted(np.sort(walk.split.history.timestamp), moments)
    return WalkResult(
        window=walk.window,
        reference=RETRAINED if RETRAINED in arms else None,
        steps=[
            WalkStep(
                begin=datetime.fromtimestamp(step.begin, UTC).isoformat(),
                cases=step.cases.stop - step.cases.start,
                learned=int(learned),
            )
            for step, learned in zip(walk.steps, np.diff(before), strict=True)
        ],
        arms=[
            WalkArm(
                name=name,
                values=[float(values[name][step.cases].mean()) for step in walk.steps],
                seconds=[cost.seconds for cost in one.costs],
                cpu_seconds=[cost.processor for cost in one.costs],
                kept=kept(name),
                cost=share(name, lambda cost: cost.seconds),
                cpu_cost=share(name, lambda cost: cost.processor),
            )
            for name, one in arms.items()
        ],
    )
