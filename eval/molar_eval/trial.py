"""One model with one seed on one split: fitted, asked, and kept, so that a long suite goes on where it stopped."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from molar_eval.cases import Cases
from molar_eval.models.base import EvaluationTask, Model, Scorer
from molar_eval.modules import of_making
from molar_eval.ranking import Ranked, rank
from molar_eval.ranking_job import RankingJob, shards_of
from molar_eval.splits import Split
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import for_owner, write_atomically
from molar_retrieval.workspace.jobs import Runner, SerialRunner

_FORMAT = 1
_RECORD = "trial.json"


@dataclass(frozen=True, eq=False)
class Trial:
    """What came of it: lists and ranks, and wall time of scoring, by test; wall time of fitting with tuning.

    ``facts`` is what the model says about itself; ``cached``: whether it was there already.
    """

    seed: int
    facts: Mapping[str, Any]
    fit_seconds: float
    score_seconds: Mapping[str, float]
    ranked: Mapping[str, Ranked]
    cached: bool


@dataclass(frozen=True, eq=False)
class TrialRunner:
    """A split made ready for models, its ``task`` what they may see of it, ``cache`` the folder of finished trials.

    Lists have length ``k``; ``memory`` are bytes that ranking may use for scores. Where there are so many scores that
    they are several shards, the ``runner`` has them made, of a model that lies in files.
    """

    split: Split
    task: EvaluationTask
    k: int
    cache: Path
    memory: int
    runner: Runner = field(default_factory=SerialRunner)

    def run(self, model: Model, seed: int, progress: Progress = SILENT) -> Trial:
        """Fit and ask the model, unless that was done with the same data, settings, seed, code and libraries.

        Raises :class:`DataError` if the data lack what the model needs.
        """
        name = self._name(model, seed)
        folder, work = self.cache / name, self.cache / f"{name}.ranking"
        if (folder / _RECORD).exists():
            return _read(folder, seed, list(self.split.tests))
        began = time.perf_counter()
        scorer = model.fit(self.task, seed, progress)
        fit_seconds = time.perf_counter() - began
        ranked, seconds = {}, {}
        for test, cases in self.split.tests.items():
            began = time.perf_counter()
            ranked[test] = self._ranked(scorer, f"{model.name}: {test}", cases, work, progress)
            seconds[test] = time.perf_counter() - began
        facts = dict(scorer.facts)
        trial = Trial(seed, facts, facts.pop("fit_seconds", fit_seconds), seconds, ranked, cached=False)
        _write(folder, model, trial)
        shutil.rmtree(work, ignore_errors=True)
        return trial

    def _ranked(self, scorer: Scorer, title: str, cases: Cases, work: Path, progress: Progress) -> Ranked:
        """The lists of a test; where it is cut, shards lie in the folder ``work`` until the trial is kept."""
        task, files, n_items = self.task, scorer.files, self.task.training.n_items
        if files is not None and len(shards_of(len(cases), n_items, self.memory)) > 1:
            place = work / fingerprint.of_json([title, files.fingerprint])
            job = RankingJob(place.absolute(), files, n_items, self.k, task.seen, self.memory, title)
            return job.make(cases, task, self.runner, progress)
        progress.start(title, len(cases))
        found = rank(
            cases, scorer.scores, k=self.k, candidates=cases.among(task.candidates), seen=task.seen,
            finish=scorer.finish, memory=self.memory, progress=progress,
        )  # fmt: skip
        progress.finish()
        return found

    def _name(self, model: Model, seed: int) -> str:
        task, kind = self.task, type(model)
        content = b"" if task.content is None else np.ascontiguousarray(task.content).tobytes()
        key = [
            _FORMAT,
            f"{kind.__module__}.{kind.__qualname__}",
            self.split.fingerprint,
            dict(model.settings),
            seed if model.stochastic else None,
            self.k,
            task.seen,
            fingerprint.of_bytes([task.candidates.tobytes(), content]),
            of_making(kind.__module__, "molar_eval.trial"),
        ]
        return fingerprint.of_json(key)


def _write(folder: Path, model: Model, trial: Trial) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for number, ranked in enumerate(trial.ranked.values()):
        save_file(ranked.to_tensors(), partial / f"test-{number}.safetensors")
    record: dict[str, Any] = {"model": model.name, "facts": dict(trial.facts)}
    record |= {"fit_seconds": trial.fit_seconds, "score_seconds": dict(trial.score_seconds)}
    write_atomically(partial / _RECORD, json.dumps(record, indent=1, ensure_ascii=False))
    for_owner(partial)
    partial.rename(folder)


def _read(folder: Path, seed: int, tests: list[str]) -> Trial:
    record = json.loads((folder / _RECORD).read_text("utf-8"))
    ranked = {}
    for number, test in enumerate(tests):
        ranked[test] = Ranked(**load_file(folder / f"test-{number}.safetensors"))
    return Trial(seed, record["facts"], record["fit_seconds"], record["score_seconds"], ranked, cached=True)
