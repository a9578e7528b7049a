"""What a Ray cluster of this machine costs and brings, in a namespace whose network is the loopback alone.

Run as `python bench/cluster.py WORKSPACE`, on an idle machine, as root or where `unshare --map-root-user` is allowed: a
copy of the workspace of a trained shop gets a cluster of two machines of one CPU each. Vectors of all items, lists of
all users and their vectors (where there are towers) are made by processes of this machine and by workers of the
cluster, one and two, in turn. The fixed cost is what a run with one shard of nobody takes. ROUNDS and
ONLY=embed|recommend|users in the environment shorten it.
"""

import fcntl
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import ray_cluster

from molar_indexes.batch import recommend
from molar_indexes.rebuild import UserVectorsJob
from molar_retrieval.embedding import embed
from molar_retrieval.embedding.run import with_current_encoder
from molar_retrieval.models.als import open_log
from molar_retrieval.progress import SILENT
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import ProcessRunner, Runner
from molar_retrieval.workspace.ray_jobs import ClusterAddress, RayRunner
from molar_retrieval.workspace.settings import EmbedSettings

ROUNDS = int(os.environ.get("ROUNDS", "3"))
ONLY = os.environ.get("ONLY", "embed recommend").split()


@contextmanager
def two_machines(workspace: Path) -> Iterator[tuple[Path, ClusterAddress, float]]:
    """A copy of a workspace with a cluster of two machines of one CPU each, and the seconds until these were up."""
    with tempfile.TemporaryDirectory(prefix="molar-bench-") as scratch, ExitStack() as up:
        place = Path(scratch, ".molar")
        subprocess.run(["cp", "-a", "--sparse=always", workspace, place], check=True)
        begun = time.perf_counter()
        machines = Path(scratch, "cluster")
        for name in ("first", "second"):
            ray_cluster.up(machines, name, join=name == "second", cpus=1)
            up.callback(ray_cluster.down, machines, name)
        took = time.perf_counter() - begun
        yield place, ray_cluster.address_of(machines), took


def main(workspace: Path) -> None:
    with two_machines(workspace) as (place, address, took):
        told: dict[str, object] = {"two machines up, s": round(took, 1)}
        ways: dict[str, Runner] = {
            "1 process": ProcessRunner(1), "2 processes": ProcessRunner(2),
            "1 worker": RayRunner(address, 1), "2 workers": RayRunner(address, 2),
        }  # fmt: skip
        begun = time.perf_counter()
        recommend(place, place.with_name("nobody.parquet"), users=["nobody"], runner=ways["1 worker"])
        told["fixed cost, s"] = round(time.perf_counter() - begun, 1)
        works: dict[str, Callable[[Runner], bytes]] = {
            "recommend": lambda runner: lists(place, place.with_name("lists.parquet"), runner),
            "embed": lambda runner: vectors(place, runner),
            "users": lambda runner: people(place, runner),
        }
        told |= {name: compared(works[name], ways) for name in ONLY}
    print(json.dumps(told, indent=1))


def compared(work: Callable[[Runner], bytes], ways: dict[str, Runner]) -> dict[str, object]:
    took: dict[str, list[float]] = {name: [] for name in ways}
    files = set()
    for _ in range(ROUNDS):
        for name, runner in ways.items():
            begun = time.perf_counter()
            files.add(work(runner))
            took[name].append(time.perf_counter() - begun)
    middle = {name: statistics.median(values) for name, values in took.items()}
    return {
        "different files": len(files),
        "seconds": {name: round(value, 1) for name, value in middle.items()},
        "two workers are so many times one": round(middle["1 worker"] / middle["2 workers"], 2),
        "workers have so much of the speed of processes": round(middle["2 processes"] / middle["2 workers"], 2),
    }


def lists(workspace: Path, out: Path, runner: Runner) -> bytes:
    recommend(workspace, out, k=10, runner=runner)
    return out.read_bytes()


def vectors(workspace: Path, runner: Runner) -> bytes:
    """Made anew, by the encoder that made those that are there."""
    place = Workspace(workspace)
    settings = with_current_encoder(EmbedSettings(), place)
    shutil.move(place["content"].root, workspace.with_name("former"))
    try:
        folder = embed(place, settings, runner=runner).folder
        return (folder / "vectors.safetensors").read_bytes()
    finally:
        shutil.rmtree(place["content"].root)
        shutil.move(workspace.with_name("former"), place["content"].root)


def people(workspace: Path, runner: Runner) -> bytes:
    place = Workspace(workspace)
    log = open_log(place)
    job = UserVectorsJob.of(place["generations"], place["alignment"].require(), log)
    try:
        job.make(log, runner, SILENT)
        return b"".join(path.read_bytes() for path in sorted(job.folder.glob("*.safetensors")))
    finally:
        shutil.rmtree(job.folder)


def with_loopback() -> None:
    """Bring the loopback of a new namespace up."""
    with socket.socket() as any_one:
        fcntl.ioctl(any_one, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        with_loopback()
        main(Path(sys.argv[2]))
    else:
        way = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--pid", "--fork"]
        way += ["--kill-child", "--mount-proc"]  # whatever ends this, nothing of it stays
        os.execvp("unshare", [*way, sys.executable, __file__, "--inside", *sys.argv[1:]])
