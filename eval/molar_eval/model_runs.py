"""Fitting a model on a split and ranking its cases, kept on disk.

Only a model that lies in files can be asked elsewhere; one that lives in memory ranks where it was fitted. Shards begin
where blocks of :func:`molar_eval.ranking.rank` do, so lists are the same bytes whoever makes them.

One row per case and target, or per case where all its targets are scored as a set::

    RUN/scores/SPLIT/MODEL/seed-0.parquet
        case             int64        number of the case within the split
        user             string       whose case it is
        target           string       the item that would have been right; null: the row scores a set
        ndcg@10, …       float        one column per metric; higher is better
        slice:history …  dictionary   one column per dimension; null: in no slice of it

The file's metadata hold the split's name and fingerprint, the model and the seed.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from molar_eval.cases import Cases, Seen
from molar_eval.models.base import EvaluationTask, Model, Scorer, ScorerFiles
from molar_eval.modules import of_making
from molar_eval.ranking import Ranked, block_height, rank
from molar_eval.slices import Labels
from molar_eval.splits import Split
from molar_retrieval.data.interactions import of_tensors, to_tensors
from molar_retrieval.errors import DataError, MissingArtefactError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import for_owner, write_atomically
from molar_retrieval.workspace.jobs import Runner, SerialRunner, Shard, ShardWork, atomic_file
from molar_retrieval.workspace.tensors import TensorsWriter, mapped, under

SCORES = 1 << 28
"""Scores of a shard: some ten seconds of one processor."""
_INPUTS, _MODEL = "inputs.safetensors", "model"
_ARRAYS = ("user", "length", "offsets", "targets")


def shards_of(cases: int, n_items: int, memory: int) -> list[Shard]:
    """So many cases in shards of whole blocks, see :func:`molar_eval.ranking.block_height`."""
    block = block_height(n_items, memory)
    size = block * max(1, SCORES // (block * max(1, n_items)))
    ranges = [range(first, min(first + size, cases)) for first in range(0, cases, size)]
    return [Shard(number, len(one), one) for number, one in enumerate(ranges)]


@dataclass(frozen=True)
class RankingJob:
    """All that one model is asked in one test; ``folder`` has the inputs and the shards, and is this work's alone.

    Lists have length ``k``; ``memory`` are bytes for the scores of a block, in each worker.
    """

    folder: Path
    files: ScorerFiles
    n_items: int
    k: int
    seen: Seen
    memory: int
    task: str
    gpu: bool = False

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:08}.safetensors"

    def is_whole(self, shard: int) -> bool:
        """Whether the file is there, as long as it says."""
        try:
            return bool(mapped(self.path(shard)))
        except (OSError, ValueError):
            return False

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Open the model and the cases."""
        tensors = mapped(self._inputs)
        history, training = (of_tensors(under(tensors, whose), self.n_items) for whose in ("history.", "training."))
        cases = Cases(history, **{name: tensors[name] for name in _ARRAYS}, readable=tensors.get("readable"))
        with self.files.opened(training) as scorer:

            def work(shard: Shard) -> Sequence[str]:
                some = cases.between(shard.given.start, shard.given.stop)
                ranked = rank(
                    some, scorer.scores, k=self.k, candidates=tensors["candidates"], seen=self.seen,
                    finish=scorer.finish, memory=self.memory,
                )  # fmt: skip
                with atomic_file(self.path(shard.number)) as partial:
                    save_file(ranked.to_tensors(), partial)
                    for_owner(partial)
                return ()

            yield work

    def make(self, cases: Cases, task: EvaluationTask, runner: Runner, progress: Progress) -> Ranked:
        """Have all shards made that are missing; the lists and ranks of all cases."""
        if not self._inputs.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            tensors = {f"history.{name}": values for name, values in to_tensors(cases.history).items()}
            tensors |= {f"training.{name}": values for name, values in to_tensors(task.training).items()}
            tensors |= {name: getattr(cases, name) for name in _ARRAYS}
            tensors["candidates"] = cases.among(task.candidates)
            tensors |= {} if cases.readable is None else {"readable": cases.readable}
            with atomic_file(self._inputs) as partial:
                with TensorsWriter(partial) as writer:
                    for name, values in tensors.items():
                        writer.append(name, values)
                for_owner(partial)
        shards = shards_of(len(cases), self.n_items, self.memory)
        runner.run(self, shards, progress)
        return Ranked.joined([Ranked(**load_file(self.path(shard.number))) for shard in shards])

    @property
    def _inputs(self) -> Path:
        return self.folder / _INPUTS


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
            of_making(kind.__module__, "molar_eval.model_runs"),
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


FOLDER = "scores"
_METADATA = b"molar.scores"
_SLICE = "slice:"
_KEYS = ("case", "user", "target")


@dataclass(frozen=True, eq=False)
class CaseScores:
    """What one model with one seed scored on the cases of one split, in n rows.

    Files with the same ``fingerprint``, the split's, score the same cases. ``case`` has a number for each row, ``user``
    and ``target`` ids as Arrow strings; ``values`` have shape (n, metrics), ``metrics`` names such as ``ndcg@10``.
    """

    split: str
    fingerprint: str
    model: str
    seed: int
    case: npt.NDArray[np.int64]
    user: pa.Array
    target: pa.Array
    metrics: tuple[str, ...]
    values: npt.NDArray[np.float32]
    slices: Sequence[Labels] = ()

    def users(self) -> npt.NDArray[np.int64]:
        """The users as numbers, in order of first appearance, shape (n,)."""
        return np.asarray(self.user.dictionary_encode().indices, np.int64)


def scores_path(run: Path, split: str, model: str, seed: int) -> Path:
    """Where the scores of a model lie in the folder of a run."""
    return run / FOLDER / split / quote(model, safe=" ()+,=") / f"seed-{seed}.parquet"


def score_files(run: Path) -> list[Path]:
    """The files of all scores in the folder of a run."""
    return sorted((run / FOLDER).glob("*/*/seed-*.parquet"))


def mean_by_user(scores: Sequence[CaseScores]) -> pa.Table:
    """Means over the cases of each user, and over seeds: ``split``, ``model``, ``user_id``, one column per metric."""
    tables = []
    for one in scores:
        columns = {name: pa.array(one.values[:, n].astype(np.float64)) for n, name in enumerate(one.metrics)}
        whose = {"split": [one.split] * len(one.case), "model": [one.model] * len(one.case), "user_id": one.user}
        tables.append(pa.table({**whose, "seed": [one.seed] * len(one.case), **columns}))
    keys, metrics = ["split", "model", "user_id"], list(scores[0].metrics) if scores else []
    means = [(name, "mean") for name in metrics]
    table = pa.concat_tables(tables, promote_options="default").group_by(keys, use_threads=False).aggregate(means)
    return table.rename_columns([name.removesuffix("_mean") for name in table.column_names]).select([*keys, *metrics])


def write_scores(path: Path, scores: CaseScores) -> None:
    """Write the file so that a reader sees all of it or nothing; folders are made.

    Raises :class:`DataError` if a score is not a finite number, which no mean or test could be computed from.
    """
    finite = np.isfinite(scores.values).all(axis=0)
    if not finite.all():
        name = scores.metrics[int(np.argmin(finite))]
        raise DataError(f"{name} of {scores.model!r} is not a number for some case", "score every case, 0 for a miss")
    columns: dict[str, Any] = {
        "case": pa.array(scores.case, pa.int64()),
        "user": scores.user.cast(pa.string()),
        "target": scores.target.cast(pa.string()),
    }
    for number, name in enumerate(scores.metrics):
        columns[name] = pa.array(scores.values[:, number], pa.float32())
    for labels in scores.slices:
        columns[_SLICE + labels.dimension] = labels.array()
    about = {
        "split": scores.split,
        "fingerprint": scores.fingerprint,
        "model": scores.model,
        "seed": scores.seed,
        # Parquet does not promise to keep the order of a dictionary, nor its unused values.
        "slices": {labels.dimension: labels.names for labels in scores.slices},
    }
    table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(about, ensure_ascii=False)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, temporary, compression="zstd")
    for_owner(temporary)
    temporary.replace(path)


def read_scores(path: Path) -> CaseScores:
    """Read what :func:`write_scores` wrote.

    Raises :class:`MissingArtefactError` if there is none, :class:`DataError` if it is something else.
    """
    if not path.exists():
        raise MissingArtefactError(f"there are no scores {path}", "run `molar evaluate` first")
    try:
        table = pq.read_table(path, use_threads=False).combine_chunks()
        about = json.loads(table.schema.metadata[_METADATA])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no scores: {error}", "delete it and run `molar evaluate` again") from error
    metrics = tuple(n for n in table.column_names if n not in _KEYS and not n.startswith(_SLICE))
    values = np.empty((len(table), len(metrics)), np.float32)
    for number, name in enumerate(metrics):
        values[:, number] = table[name].to_numpy()
    return CaseScores(
        split=about["split"],
        fingerprint=about["fingerprint"],
        model=about["model"],
        seed=about["seed"],
        case=table["case"].to_numpy(),
        user=_one(table["user"]),
        target=_one(table["target"]),
        metrics=metrics,
        values=values,
        slices=tuple(
            Labels.of_strings(dimension, names, _one(table[_SLICE + dimension]).dictionary_decode())
            for dimension, names in about["slices"].items()
        ),
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
