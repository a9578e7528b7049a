"""A Ray cluster of two machines, in a namespace whose network is the loopback alone, and what is killed in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from copies import copy_workspace
from embedding_fakes import FakeEncoder, Shop
from ray_cluster import Member, members
from shard_jobs import contents, squares

CHILD = Path(__file__).resolve().parents[1] / "cluster_child.py"
FILES = ("vectors.safetensors", "items.parquet", "rejects.parquet")
_AS_ROOT = [] if os.geteuid() == 0 else ["--map-root-user"]
UNSHARE = ["unshare", *_AS_ROOT, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


class Namespace:
    """Runs functions of tests/cluster_child.py within it; all of its processes are gone with the one that holds it."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(CHILD.parent), *sys.path])
        self.environment = {
            **os.environ,
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
        }  # for equal bits
        self._holder = subprocess.Popen(
            [*UNSHARE, sys.executable, CHILD, "hold"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        self.ready = self._holder.stdout.readline() == "ready\n"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._first = children.read_text().strip() if self.ready else ""

    def begin(self, function: str, **arguments: Any) -> "subprocess.Popen[str]":
        inside = ["nsenter", f"--target={self._first}", "--net", "--pid", "--mount", *(_AS_ROOT and ["--user"])]
        return subprocess.Popen(
            [*inside, sys.executable, CHILD, "run", function, json.dumps(arguments)],
            stdout=subprocess.PIPE, env=self.environment, text=True,
        )  # fmt: skip

    def run(self, function: str, **arguments: Any) -> Any:
        running = self.begin(function, **arguments)
        said, _ = running.communicate(timeout=300)
        assert running.returncode == 0
        return json.loads(said.splitlines()[-1])

    def close(self) -> None:
        self._holder.communicate("", timeout=30)


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: the extra `cluster`")
    if sys.platform != "linux" or shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("there are no network namespaces here: Ray would listen on the network")
    space = Namespace()
    if not space.ready:
        pytest.skip("unshare -n is not allowed here: Ray would listen on the network")
    yield space
    space.close()


@pytest.fixture(scope="module")
def workspace(space: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("clustered") / "cluster"
    space.run("up", workspace=str(folder), name="first", join=False)
    space.run("up", workspace=str(folder), name="second", join=True)
    yield folder
    for name in ("second", "first"):
        space.run("down", workspace=str(folder), name=name)


@pytest.fixture
def squared(space: Namespace, workspace: Path, tmp_path: Path) -> Callable[..., Any]:
    def run(count: int = 8, workers: int | None = None, *, begun: bool = False, **job: Any) -> Any:
        arguments = {"workspace": str(workspace), "folder": str(tmp_path), "count": count, "workers": workers, **job}
        return (space.begin if begun else space.run)("squared", **arguments)

    return run


def member(workspace: Path, name: str) -> Member:
    return next(one for one in members(workspace) if one.name == name)


def raylet(one: Member) -> int:
    (found,) = [pid for pid in one.processes if b"raylet/raylet" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_machines_are_told_and_ask_for_a_token(space: Namespace, workspace: Path) -> None:
    found = space.run("nodes", workspace=str(workspace))
    assert [(node["alive"], node["cpus"], node["address"]) for node in found] == [(True, 2, "127.0.0.1")] * 2
    assert space.run("knock", workspace=str(workspace), token=None) == {"access": "refused"}
    wrong = space.run("knock", workspace=str(workspace), token="0" * 64)
    assert "refuses this token" in wrong["error"]


def test_a_killed_worker_is_replaced(squared: Callable[..., Any], tmp_path: Path) -> None:
    report = squared(deadly=3)
    assert report["made"] == 8
    assert contents(tmp_path) == squares(8)
    assert "a worker of the cluster was lost: shard 3 is made again" in report["notes"]
    assert len(set((tmp_path / "opened").read_text().split())) <= 5  # four, and one in the place of another


def test_an_error_of_a_shard_comes_home(squared: Callable[..., Any]) -> None:
    refused = squared(bad=0, workers=1)
    assert (refused["kind"], refused["error"]) == ("DataError", "this one cannot be done")


def test_lists_are_the_same_from_any_number_of_workers(
    space: Namespace, workspace: Path, trained: Any, tmp_path: Path
) -> None:
    told = space.run(
        "recommended", workspace=str(workspace), shop=str(trained.workspace), folder=str(tmp_path), size=20
    )
    alone, *others = told.values()
    assert others == [alone] * 3
    assert alone["made"] == alone["shards"] > 4
    written = {path.read_bytes() for path in tmp_path.glob("*.parquet")}
    assert (len(told), len(written)) == (4, 1)


def test_vectors_are_the_same_though_a_worker_is_killed(space: Namespace, workspace: Path, tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add("deadly", with_image=True)
    shop.truncate("images/0.png")
    shop.embed(FakeEncoder())
    alone = [(shop.version() / name).read_bytes() for name in FILES]
    shutil.rmtree(shop.workspace.root / "content")
    report = space.run("embedded", workspace=str(workspace), shop=str(shop.workspace.root), folder=str(tmp_path))
    assert report["encoded"] == 13
    assert any("a worker of the cluster was lost" in note for note in report["notes"])
    assert [(shop.version() / name).read_bytes() for name in FILES] == alone


def test_cases_are_ranked_the_same_though_a_worker_is_killed(space: Namespace, workspace: Path, tmp_path: Path) -> None:
    told = space.run("ranked", workspace=str(workspace), folder=str(tmp_path))
    assert told["0"]["cases"] == told["2"]["cases"] == 120
    assert any("a worker of the cluster was lost" in note for note in told["2"]["notes"])
    found = [{path.name: path.read_bytes() for path in (tmp_path / number).glob("*.safetensors")} for number in "02"]
    assert len(found[0]) > 5
    assert found[0] == found[1]


@pytest.fixture
def untrained(trained: Any, tmp_path: Path) -> Path:
    """The workspace of the small shop, without its alignment."""
    ignore = shutil.ignore_patterns("alignment", "generations")
    return copy_workspace(trained.workspace, tmp_path / ".molar", ignore=ignore)


@pytest.fixture
def train(space: Namespace, workspace: Path, untrained: Path, tmp_path: Path) -> Callable[..., Any]:
    """Aligns the small shop anew, or goes on with it, on two ranks of the cluster, of whom one is killed some times."""

    def run(ranks: int = 2, killed: int = 0, *, begun: bool = False, **settings: Any) -> Any:
        shop, more = str(untrained), {"ranks": ranks, "times": killed, **settings}
        arguments = {"workspace": str(workspace), "shop": shop, "folder": str(tmp_path), **more}
        return (space.begin if begun else space.run)("trained", **arguments)

    return run


def ranks_there(workspace: Path) -> int:
    pids = [pid for one in members(workspace) for pid in one.processes]
    return sum(b"ray::Rank" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)


def test_towers_of_two_ranks_are_those_of_two_processes(
    train: Callable[..., Any], untrained: Path, warm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clustered = train()
    assert clustered["heard"] == [1, 2, 3]
    assert {score["processes"] for score in clustered["curve"]} == {2}
    said = [note for note in clustered.pop("notes") if note.startswith("training the towers: ")]
    assert len(said) == 1
    assert "2 ranks, one per CPU, on" in said[0]
    shutil.rmtree(untrained / "alignment")
    done = warm.run(CHILD.with_name("launched.py"), 2, CHILD.with_name("training_groups.py"), untrained)
    assert done.returncode == 0, done.stderr
    assert clustered == {name: what for name, what in json.loads(done.stdout).items() if name != "notes"}


@pytest.mark.skipif("MOLAR_TEST_CLUSTER" not in os.environ, reason="trains for minutes: MOLAR_TEST_CLUSTER=1")
def test_after_a_killed_rank_all_go_on_from_the_last_epoch(
    train: Callable[..., Any], untrained: Path, tmp_path: Path
) -> None:
    whole = train()
    shutil.rmtree(untrained / "alignment")
    killed = train(killed=1)
    assert any("a rank of the cluster was lost" in note for note in killed.pop("notes"))
    assert killed == {name: what for name, what in whole.items() if name != "notes"}
    assert {path.name for path in tmp_path.glob("began*")} == {"began0", "began1"}
    shutil.rmtree(untrained / "alignment")
    (tmp_path / "died0").rmdir()
    assert "ranks are killed before they have finished a round" in train(killed=5)["error"]
    assert len(list(tmp_path.glob("died*"))) == 3


@pytest.mark.skipif("MOLAR_TEST_CLUSTER" not in os.environ, reason="trains for minutes: MOLAR_TEST_CLUSTER=1")
def test_a_killed_program_leaves_no_ranks_and_is_gone_on_with(
    train: Callable[..., Any], workspace: Path, untrained: Path, tmp_path: Path
) -> None:
    long = {"epochs": 60, "patience": 60}
    running = train(begun=True, **long)
    until(lambda: any((untrained / "alignment").glob("*/best.safetensors")), 120)
    assert ranks_there(workspace) == 2
    (program,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(program), signal.SIGKILL)
    running.communicate()
    until(lambda: not ranks_there(workspace), 40)
    again = train(**long)
    assert again["heard"] == list(range(1, 61))
    (began,) = [int(path.name[5:]) for path in tmp_path.glob("began*") if path.name != "began0"]
    assert 0 < began < 60
    shutil.rmtree(untrained / "alignment")
    assert train(**long)["model"] == again["model"]


@pytest.mark.skipif("MOLAR_TEST_CLUSTER" not in os.environ, reason="trains for minutes: MOLAR_TEST_CLUSTER=1")
def test_without_a_machine_that_is_lost_fewer_ranks_go_on(
    space: Namespace, train: Callable[..., Any], workspace: Path, untrained: Path
) -> None:
    running = train(4, begun=True, epochs=40, patience=40)
    until(lambda: any((untrained / "alignment").glob("*/best.safetensors")), 120)
    os.kill(raylet(member(workspace, "second")), signal.SIGKILL)
    told = json.loads(running.communicate(timeout=300)[0].splitlines()[-1])
    assert {score["processes"] for score in told["curve"]} == {4, 2}
    assert any("2 ranks, one per CPU" in note and "of 4 asked for" in note for note in told["notes"])
    space.run("up", workspace=str(workspace), name="second", join=True)


def test_a_raylet_that_is_killed_costs_what_it_had_in_hand(
    workspace: Path, squared: Callable[..., Any], tmp_path: Path
) -> None:
    running = squared(count=16, seconds=0.5, begun=True)
    until(lambda: len(contents(tmp_path)) >= 4)
    os.kill(raylet(member(workspace, "second")), signal.SIGKILL)
    report = json.loads(running.communicate(timeout=300)[0].splitlines()[-1])
    assert report["made"] == 16
    assert contents(tmp_path) == squares(16)


def test_after_a_killed_program_only_what_is_missing_is_made(squared: Callable[..., Any], tmp_path: Path) -> None:
    running = squared(count=12, seconds=0.5, begun=True)
    until(lambda: len(contents(tmp_path)) >= 4)
    (program,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()  # nsenter waits for it
    os.kill(int(program), signal.SIGKILL)
    running.communicate()
    time.sleep(1)  # what is in hand may still come
    left = 12 - len([name for name in contents(tmp_path) if name.endswith(".txt")])
    report = squared(count=12)
    assert 0 < report["made"] <= left
    assert any(note.startswith("going on with an interrupted run") for note in report["notes"])
    assert contents(tmp_path) == squares(12)


@pytest.mark.skipif("MOLAR_TEST_CLUSTER" not in os.environ, reason="starts both again: MOLAR_TEST_CLUSTER=1")
def test_after_a_killed_head_only_what_is_missing_is_made(
    space: Namespace, workspace: Path, squared: Callable[..., Any], tmp_path: Path
) -> None:
    running = squared(count=12, seconds=0.5, begun=True)
    until(lambda: len(contents(tmp_path)) >= 4)
    first = member(workspace, "first")
    for pid in first.processes:
        os.kill(pid, signal.SIGKILL)
    report = json.loads(running.communicate(timeout=300)[0].splitlines()[-1])
    assert report["kind"] == "BackendError"
    assert "cluster" in report["error"]
    space.run("up", workspace=str(workspace), name="first", join=False)  # a head again
    space.run("up", workspace=str(workspace), name="second", join=True)
    left = 12 - len([name for name in contents(tmp_path) if name.endswith(".txt")])
    again = squared(count=12)
    assert again.get("made") == left, again
    assert contents(tmp_path) == squares(12)
