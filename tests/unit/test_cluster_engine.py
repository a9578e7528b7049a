"""How shards are handed to actors, by a Ray that is made up: what is waited for, and for how long."""

from collections.abc import Callable
from itertools import count
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from shard_jobs import SquaresJob, contents, shards, squares

from molar_retrieval.errors import BackendError, DataError

RayActorError = pytest.importorskip("ray.exceptions", reason="ray is not installed: the extra `cluster`").RayActorError
engine = pytest.importorskip("molar_retrieval.cluster.engine", reason="ray is not installed: the extra `cluster`")


class MadeUpRay:
    """Two CPUs; what ``ready`` says of a call's number and method, is done when it is waited for."""

    def __init__(self, ready: Callable[[int, str], bool] = lambda number, method: True) -> None:
        self.now, self.killed, self._ready, self._numbers = 0.0, 0, ready, count()
        self._calls: dict[int, tuple[str, Callable[[], Any]]] = {}
        self._shards: dict[int, Any] = {}
        self.deadly: int | None = None  # a shard over which every actor dies

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **options: Any) -> Callable[[type], Any]:
        assert options == {"num_cpus": 1, "max_restarts": 0}
        return lambda kind: SimpleNamespace(remote=lambda: self._actor(kind()))

    def _actor(self, inner: Any) -> Any:
        def method(name: str) -> Any:
            def called(*arguments: Any) -> int:
                number = next(self._numbers)
                self._shards[number] = arguments[0] if name == "make" else None
                self._calls[number] = name, lambda: getattr(inner, name)(*arguments)
                return number

            return SimpleNamespace(remote=called)

        return SimpleNamespace(**{name: method(name) for name in ("begin", "open", "make")})

    def wait(self, references: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        done = [one for one in references if self._ready(one, self._calls[one][0])][:num_returns]
        self.now += 0 if done else timeout
        return done, references

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
        monkeypatch.setattr(engine, "ray", ray)
        monkeypatch.setattr(engine, "monotonic", lambda: ray.now)
        monkeypatch.setattr("threadpoolctl.threadpool_limits", lambda threads: None)  # this process goes on
        monkeypatch.setattr("molar_retrieval.native.keep_freed_memory", lambda: True)
        wanted, _ours = Pipe()
        return list(engine.Pool(SquaresJob(folder, **job), shards(number), None, wanted).made())

    return run


def test_as_many_actors_as_there_is_room_for(made: Callable[..., list[Any]], tmp_path: Path) -> None:
    ray = MadeUpRay()
    told = made(ray)
    assert told[0] == "squaring: 5 shards for up to 2 workers of the cluster"
    assert {number for number, _ in told[1:]} == {0, 1, 2, 3, 4}
    assert contents(tmp_path) == squares(5)
    assert len((tmp_path / "opened").read_text().split()) == 2


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
    with pytest.raises(BackendError, match=r"workers are killed before they have made any .* \(1\)"):
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
    monkeypatch.setattr(engine.socket, "gethostname", lambda: "second")
    with pytest.raises(DataError, match="second has no folder"):
        made(MadeUpRay(), folder=tmp_path / "elsewhere")
    monkeypatch.setattr(engine, "ShardWorker", Older)
    with pytest.raises(BackendError, match=r"second has molar .*, not 0\.0\.1"):
        made(MadeUpRay())


class Older(engine.ShardWorker):  # type: ignore[misc,name-defined]
    """On a machine with a later molar than that of the program."""

    def open(self, packed: bytes, folder: str, version: str) -> Exception | None:
        found: Exception | None = super().open(packed, folder, "0.0.1")
        return found
