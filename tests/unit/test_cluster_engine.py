"""How shards are handed to actors, by a Ray that is made up: what is waited for, and for how long."""

import os
import sys
from collections.abc import Callable
from itertools import count
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from shard_jobs import SquaresJob, contents, shards, squares

from molar_retrieval import __version__
from molar_retrieval.errors import BackendError, DataError
from molar_retrieval.models.towers import ray_training
from molar_retrieval.models.towers.distributed import PackedJob
from molar_retrieval.workspace import ray_jobs

RayActorError = pytest.importorskip("ray.exceptions", reason="ray is not installed: the extra `cluster`").RayActorError


class MadeUpRay:
    """Two CPUs; what ``ready`` says of a call's number and method, is done when it is waited for."""

    def __init__(self, ready: Callable[[int, str], bool] = lambda number, method: True) -> None:
        self.now, self.killed, self._ready, self._numbers = 0.0, 0, ready, count()
        self._calls: dict[int, tuple[str, Callable[[], Any]]] = {}
        self._shards: dict[int, Any] = {}
        self.deadly: int | None = None  # a shard over which every actor dies
        self.has, self.options = {"CPU": 2.0}, dict[str, Any]()

    def cluster_resources(self) -> dict[str, float]:
        return self.has

    def remote(self, **options: Any) -> Callable[[type], Any]:
        self.options = options
        return lambda kind: SimpleNamespace(remote=lambda: self._actor(kind()))

    def _actor(self, inner: Any) -> Any:
        def method(name: str) -> Any:
            def called(*arguments: Any) -> int:
                number = next(self._numbers)
                self._shards[number] = arguments[0] if name == "make" else None
                self._calls[number] = name, lambda: getattr(inner, name)(*arguments)
                return number

            return SimpleNamespace(remote=called)

        return SimpleNamespace(**{name: method(name) for name in ("begin", "open", "make", "round")})

    def wait(self, references: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        done = [one for one in references if self._ready(one, self._calls[one][0])][:num_returns]
        self.now += 0 if done else timeout
        return done, [one for one in references if one not in done]

    def get(self, reference: int) -> Any:
        name, call = self._calls[reference]
        if name == "make" and self.deadly is not None and self._shards[reference].number == self.deadly:
            raise RayActorError
        return call()

    def kill(self, actor: Any) -> None:
        self.killed += 1


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    def run(ray: MadeUpRay, number: int = 5, folder: Path = tmp_path, **job: Any) -> list[Any]:
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(ray_jobs, "monotonic", lambda: ray.now)
        monkeypatch.setattr("threadpoolctl.threadpool_limits", lambda threads: None)  # this process goes on
        monkeypatch.setattr("molar_retrieval.workspace.threads.keep_freed_memory", lambda: True)
        wanted, _ours = Pipe()
        return list(ray_jobs.make_shards(SquaresJob(folder, **job), shards(number), None, wanted))

    return run


def test_as_many_actors_as_there_is_room_for(made: Callable[..., list[Any]], tmp_path: Path) -> None:
    ray = MadeUpRay()
    told = made(ray)
    assert told[0] == "squaring: 5 shards for up to 2 workers of the cluster"
    assert {number for number, _ in told[1:]} == {0, 1, 2, 3, 4}
    assert contents(tmp_path) == squares(5)
    assert len((tmp_path / "opened").read_text().split()) == 2
    assert ray.options == {"num_cpus": 1, "max_restarts": 0}


def test_a_cluster_without_room_is_not_waited_for_without_end(made: Callable[..., list[Any]]) -> None:
    ray = MadeUpRay(lambda number, method: method != "begin")
    with pytest.raises(BackendError, match="no worker could begin for 300 seconds"):
        made(ray)
    assert 300 <= ray.now < 310


def test_a_shard_over_which_every_actor_dies_is_an_error_at_last(
    made: Callable[..., list[Any]], tmp_path: Path
) -> None:
    ray = MadeUpRay()
    ray.deadly = 1
    with pytest.raises(BackendError, match=r"workers end before they have made any .* \(1\)"):
        made(ray)
    assert contents(tmp_path) == {name: text for name, text in squares(5).items() if name != "1.txt"}


def test_a_job_may_take_long_to_open(made: Callable[..., list[Any]], tmp_path: Path) -> None:
    ray = MadeUpRay()
    ray._ready = lambda number, method: method != "open" or ray.now > 1_000
    made(ray)
    assert contents(tmp_path) == squares(5)


def test_what_is_wrong_on_a_machine_is_said_by_its_name(
    made: Callable[..., list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_jobs.socket, "gethostname", lambda: "second")
    with pytest.raises(DataError, match="second has no folder"):
        made(MadeUpRay(), folder=tmp_path / "elsewhere")
    monkeypatch.setattr(ray_jobs, "ShardWorker", Older)
    with pytest.raises(BackendError, match=r"second has molar .*, not 0\.0\.1"):
        made(MadeUpRay())


class Older(ray_jobs.ShardWorker):
    """On a machine with a later molar than that of the program."""

    def open(self, packed: bytes, folder: str, version: str) -> Any:
        return super().open(packed, folder, "0.0.1")


class MadeUpRank:
    """A rank of a training of three rounds; what ``fails`` says of a start, an index and a round, goes wrong there."""

    starts: ClassVar[int] = 0
    kept: ClassVar[list[int]] = []
    fails: ClassVar[Callable[[int, int, int], Exception | None]]

    def begin(self) -> tuple[Any, None]:
        return ("machine", "127.0.0.1", 1234), None

    def open(self, job: PackedJob, version: str, index: int, count: int, first: tuple[str, int]) -> tuple[None, None]:
        assert (job.packed, version, first) == (b"job", __version__, ("127.0.0.1", 1234))
        MadeUpRank.starts += index == 0
        self.index, self.count, self.scores = index, count, list(MadeUpRank.kept)
        return None, None

    def round(self) -> tuple[Any, Exception | None]:
        error = MadeUpRank.fails(MadeUpRank.starts, self.index, len(self.scores))
        if isinstance(error, RayActorError):
            raise error
        if error is not None or len(self.scores) == 3:
            return None, error
        self.scores.append(self.count)
        if self.index == self.count - 1:  # the last one is asked when the others have answered
            MadeUpRank.kept = list(self.scores)
        return list(self.scores), None


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    def run(ray: MadeUpRay, fails: Callable[..., Any] = lambda *_: None, ranks: int = 2, **job: Any) -> Any:
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(ray_training, "monotonic", lambda: ray.now)
        monkeypatch.setattr(ray_training, "Rank", MadeUpRank)
        MadeUpRank.starts, MadeUpRank.kept, MadeUpRank.fails = 0, [], staticmethod(fails)
        wanted, ours = Pipe()
        ray.ours = ours
        packed = PackedJob(
            **{"task": "learning", "folder": tmp_path, "gpu": True, "threads": 1, "packed": b"job", **job}
        )
        return iter(ray_training.TrainingRanks(packed, ranks, wanted))

    return run


def test_ranks_go_round_by_round(rounds: Callable[..., Any]) -> None:
    ray = MadeUpRay()
    started = "learning: 2 ranks, one per CPU, on machine (2)"
    assert list(rounds(ray)) == [started, [2], [2, 2], [2, 2, 2]]
    assert (ray.options, ray.killed) == ({"num_cpus": 1, "max_restarts": 0}, 2)
    ray.has = {"CPU": 9.0, "GPU": 3.0}
    assert next(rounds(ray, ranks=4)) == "learning: 3 ranks, one per GPU, on machine (3), of 4 asked for"
    assert ray.options == {"num_cpus": 1, "num_gpus": 1, "max_restarts": 0}
    said = "learning: 3 ranks, one per CPU, on machine (3), of 4 asked for"
    assert next(rounds(ray, ranks=4, gpu=False, threads=3)) == said
    assert ray.options == {"num_cpus": 3, "max_restarts": 0}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RayActorError(), "learning: a rank of the cluster was lost; all go on from the last whole round"),
        (RuntimeError("peer\ngone"), "learning: a rank failed: peer; all go on from the last whole round"),
    ],
)
def test_all_begin_again_where_one_is_lost(rounds: Callable[..., Any], error: Exception, said: str) -> None:
    ray = MadeUpRay()
    started, *told = rounds(ray, lambda start, index, number: error if (start, index, number) == (1, 1, 1) else None)
    assert told == [[2], said, started, [2, 2], [2, 2, 2]]
    assert ray.killed == 4


@pytest.mark.parametrize(
    ("error", "kind", "said", "starts"),
    [
        (RayActorError(), BackendError, "ranks are killed before they have finished a round", 3),
        (ValueError("wrong"), ValueError, "wrong", 3),
        (DataError("no log", "bring one"), DataError, "no log", 1),
    ],
)
def test_ranks_that_end_again_and_again_end_the_run(
    rounds: Callable[..., Any], error: Exception, kind: type[Exception], said: str, starts: int
) -> None:
    with pytest.raises(kind, match=said):
        list(rounds(MadeUpRay(), lambda start, index, number: error if number else None))
    assert MadeUpRank.starts == starts


def test_where_there_is_no_room_fewer_ranks_begin_or_none(rounds: Callable[..., Any]) -> None:
    ray = MadeUpRay()
    told = rounds(ray)
    ray._ready = lambda number, method: ray.has.update(CPU=1.0) or number > 1  # a machine is lost as they begin
    assert next(told) == "learning: a rank failed: the cluster has become smaller; all go on from the last whole round"
    assert next(told) == "learning: 1 rank, one per CPU, on machine (1), of 2 asked for"
    ray = MadeUpRay(lambda number, method: method != "begin")
    with pytest.raises(BackendError, match="no rank could begin for 300 seconds: the cluster has no free CPU"):
        list(rounds(ray))
    assert ray.killed == 2


def test_ranks_end_where_nobody_wants_them(rounds: Callable[..., Any]) -> None:
    ray = MadeUpRay()
    told = rounds(ray)
    next(told)
    ray.ours.close()
    with pytest.raises(ray_jobs.UnwantedError):
        next(told)
    assert ray.killed == 2


def test_a_rank_says_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_jobs.socket, "gethostname", lambda: "second")
    monkeypatch.setattr(os, "environ", dict(os.environ))  # a rank has a process of its own, and says there who it is
    job = PackedJob("learning", tmp_path / "elsewhere", True, 1, b"")
    _, error = ray_training.Rank().open(job, __version__, 0, 1, ("127.0.0.1", 1))
    assert "second has no folder" in error.message
    _, error = ray_training.Rank().open(job, "0.0.1", 0, 1, ("127.0.0.1", 1))
    assert "not 0.0.1" in error.message


@pytest.mark.skipif(sys.platform != "linux", reason="names of interfaces are asked of Linux")
def test_the_interface_of_an_address_is_found() -> None:
    assert ray_training._interface("127.0.0.1") == "lo"
    assert ray_training._interface("192.0.2.1") is None
