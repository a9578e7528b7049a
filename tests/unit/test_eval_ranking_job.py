"""Ranking in shards: the lists and ranks are those of one go, byte for byte, whoever ranks and whatever is killed."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranking_fakes import Model
from shard_jobs import Killing, Stopping
from test_eval_leaks import task
from test_eval_splits import random_log

from molar_eval import model_runs
from molar_eval.model_runs import RankingJob, TrialRunner, shards_of
from molar_eval.models.ours import MolarFiles
from molar_eval.ranking import block_height, rank
from molar_eval.splits import leave_one_out
from molar_retrieval.models.als import open_log
from molar_retrieval.progress import Notes
from molar_retrieval.ranking.objectives import NEXT_ITEM
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import ProcessRunner, Runner, SerialRunner

BLOCK = 1200  # bytes of scores: some cases at a time


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialRunner:
    split = leave_one_out(random_log())
    monkeypatch.setattr(model_runs, "SCORES", 5 * block_height(split.history.n_items, BLOCK) * split.history.n_items)
    return TrialRunner(split, task(split, tmp_path / "models"), 10, tmp_path / "trials", BLOCK)


def made(runner: TrialRunner, by: Runner, progress: Any = None) -> dict[str, bytes]:
    """The files of a trial; it is forgotten afterwards."""
    replace(runner, runner=by).run(Model(), 0, progress or Notes())
    (folder,) = runner.cache.iterdir()
    found = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    shutil.rmtree(folder)
    return found


def test_shards_begin_where_blocks_do() -> None:
    shards = shards_of(1_000_000, 3700, 256 << 20)
    height = block_height(3700, 256 << 20)
    assert all(shard.given.start % height == 0 for shard in shards)
    assert [shard.given.stop for shard in shards[:-1]] == [shard.given.start for shard in shards[1:]]
    assert sum(shard.size for shard in shards) == 1_000_000
    assert len(shards_of(70_000, 3700, 256 << 20)) == 1
    assert max(shard.size for shard in shards_of(10**5, 10**6, 256 << 20)) * 10**6 <= model_runs.SCORES


def test_a_trial_is_the_same_files_whoever_ranks(runner: TrialRunner, tmp_path: Path) -> None:
    runner.cache.mkdir()
    trial = runner.run(Model(files=None), 0)  # in one go, as what lives in memory is ranked
    plain = {p.name: p.read_bytes() for p in (runner.cache / runner._name(Model(), 0)).glob("*.safetensors")}
    shutil.rmtree(runner.cache / runner._name(Model(), 0))
    assert max(len(ranked.items) for ranked in trial.ranked.values()) > 4
    assert made(runner, SerialRunner()) == plain
    assert made(runner, Killing(ProcessRunner(2), tmp_path)) == plain


def test_a_killed_ranking_goes_on_with_the_shards_that_are_missing(runner: TrialRunner) -> None:
    runner.cache.mkdir()
    whole = made(runner, SerialRunner())
    with pytest.raises(KeyboardInterrupt):
        replace(runner, runner=Stopping(2)).run(Model(), 0)
    notes = Notes()
    assert made(runner, SerialRunner(), notes) == whole
    count = len(shards_of(len(next(iter(runner.split.tests.values()))), runner.split.history.n_items, BLOCK))
    assert f"going on with an interrupted run: 2 of {count} shards are there" in notes.notes
    assert not list(runner.cache.iterdir())


def test_an_alignment_ranks_as_its_files_do(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Workspace.open(trained.workspace)["alignment"].require()[0].resolve()
    split = leave_one_out(open_log(Workspace.open(trained.workspace)))
    cases, own = next(iter(split.tests.values())), task(split, tmp_path)
    cases = replace(cases, ranked=np.arange(cases.history.n_items) % 3 > 0)
    files = pickle.loads(pickle.dumps(MolarFiles(folder, True, NEXT_ITEM)))
    monkeypatch.setattr(model_runs, "SCORES", 20 * cases.history.n_items)
    memory = 12 * 20 * cases.history.n_items  # 20 cases at a time
    with files.opened(own.training) as scorer:
        among = cases.among(own.candidates)
        plain = rank(cases, scorer.scores, k=10, candidates=among, finish=scorer.finish, memory=memory)
    assert (plain.items[plain.items >= 0] % 3 > 0).all()
    job = RankingJob(tmp_path / "here", files, cases.history.n_items, 10, "hide", memory, "ranking")
    found = job.make(cases, own, SerialRunner(), Notes())
    assert len(list(job.folder.glob("0*.safetensors"))) > 4
    for tensor, values in found.to_tensors().items():
        assert values.tobytes() == plain.to_tensors()[tensor].tobytes()
