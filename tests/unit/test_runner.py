"""Work in shards: whoever does it writes the same files, and a run goes on where one was killed."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import pytest
from shard_jobs import SquaresJob, contents, shards, squares
from threadpoolctl import threadpool_info

from molar_retrieval.errors import BackendError, DataError
from molar_retrieval.workspace.jobs import ProcessRunner, Runner, SerialRunner, Shard, atomic_file

SHARDS = shards(5)
RUNNERS = [SerialRunner(), ProcessRunner(1), ProcessRunner(2)]


@pytest.mark.parametrize("runner", RUNNERS)
def test_only_what_is_missing_is_made(runner: Runner, tmp_path: Path) -> None:
    job, progress = SquaresJob(tmp_path), Mock()
    job.path(3).write_text("as it was")
    report = runner.run(job, SHARDS, progress)
    assert contents(tmp_path) == squares(5) | {"3.txt": "as it was"}
    assert (report.shards, report.made, report.notes) == (5, 4, ("some are small",))
    progress.start.assert_called_once_with("squaring", 10)
    assert [call.args[0] for call in progress.advance.call_args_list] == [2] * 5
    progress.note.assert_called_once_with("going on with an interrupted run: 1 of 5 shards are there")
    assert len((tmp_path / "opened").read_text().split()) == (2 if runner in RUNNERS[2:] else 1)
    again = runner.run(job, SHARDS)
    assert (again.shards, again.made, again.notes) == (5, 0, ())


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_error_ends_the_run_and_keeps_what_is_done(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this one cannot be done"):
        runner.run(SquaresJob(tmp_path, bad=4), SHARDS)
    kept = contents(tmp_path)
    assert kept.items() <= squares(4).items()
    assert runner.run(SquaresJob(tmp_path), SHARDS).made == 5 - len(kept)


def test_where_a_process_is_killed_the_run_ends_all_the_same(tmp_path: Path) -> None:
    assert ProcessRunner(2).run(SquaresJob(tmp_path, deadly=2), SHARDS).made == 5
    assert contents(tmp_path) == squares(5)


@pytest.mark.parametrize(
    ("ended_by", "remedy"), [(signal.SIGKILL, "memory"), (signal.SIGSEGV, "OPENBLAS_CORETYPE=Haswell")]
)
def test_a_shard_that_always_kills_is_an_error_at_last(ended_by: signal.Signals, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=f"squaring: workers end by {ended_by.name}") as error:
        ProcessRunner(2).run(SquaresJob(tmp_path, deadly=2, times=99, ended_by=ended_by), SHARDS)
    assert remedy in error.value.hint
    kept = contents(tmp_path)
    assert "2.txt" not in kept
    assert kept.items() <= squares(5).items()


@dataclass(frozen=True)
class ThreadsJob(SquaresJob):
    """Loads SciPy's BLAS, which is one of its own, only where it works, and tells the threads of all."""

    def work(self, shard: Shard, standing: list[bool]) -> list[str]:
        import scipy.linalg.lapack  # noqa: F401

        found = {one["num_threads"] for one in threadpool_info()}
        self.path(shard.number).write_text(f"{os.getpid()} {max(found)}")
        time.sleep(0.05)
        return []


def test_libraries_that_a_worker_loads_later_have_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    ProcessRunner(2).run(ThreadsJob(tmp_path), SHARDS)
    told = dict(text.split() for text in contents(tmp_path).values())
    assert str(os.getpid()) not in told
    assert {*told.values()} == {"1"}


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with atomic_file(path) as mine, atomic_file(path) as other:
        assert mine != other
        mine.write_text("mine")
        other.write_text("other")
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]
    with pytest.raises(ZeroDivisionError), atomic_file(path) as mine:
        mine.write_text(str(1 // 0))
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]
