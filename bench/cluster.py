"""What a Ray cluster of this machine costs and brings, in a namespace whose network is the loopback alone.

Run as `python bench/cluster.py WORKSPACE`, on an idle machine, as root or where `unshare -rn` is allowed: a copy of the
workspace of a trained shop gets a cluster of two machines of one CPU each. Lists of all users, three times each in
turn: by processes of this machine and by the cluster, one and two at once. The fixed cost is what a run takes of which
every shard is there but one.
"""

import fcntl
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from molar_indexes.recommend import recommend
from molar_retrieval.cluster import local
from molar_retrieval.cluster.runner import OnCluster
from molar_retrieval.runner import InProcesses

ROUNDS = int(os.environ.get("ROUNDS", "3"))


def main(workspace: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="molar-bench-") as scratch:
        place = Path(scratch, ".molar")
        subprocess.run(["cp", "-a", "--sparse=always", workspace, place], check=True)
        begun = time.perf_counter()
        for name in ("first", "second"):
            local.up(place, name=name, join=name == "second", cpus=1)
        told: dict[str, object] = {"two machines up, s": round(time.perf_counter() - begun, 1)}
        try:
            told |= measured(place, Path(scratch))
        finally:
            for name in ("second", "first"):
                local.down(place, name)
    print(json.dumps(told, indent=1))


def measured(workspace: Path, scratch: Path) -> dict[str, object]:
    address = local.address_of(workspace)
    assert address is not None
    ways = {f"{n} {what}": (what, n) for n in (1, 2) for what in ("processes", "workers of the cluster")}
    took, files, users = defaultdict(list), set(), 0
    for _ in range(ROUNDS):
        for name, (what, n) in ways.items():
            out = scratch / "lists.parquet"
            runner = InProcesses(n) if what == "processes" else OnCluster(address, n)
            begun = time.perf_counter()
            users = recommend(workspace, out, 10, runner=runner).users
            took[name].append(time.perf_counter() - begun)
            files.add(out.read_bytes())
    begun = time.perf_counter()
    (some,) = [recommend(workspace, scratch / "one.parquet", 10, users=["nobody"], runner=OnCluster(address, 1))]
    fixed = time.perf_counter() - begun
    middle = {name: statistics.median(values) for name, values in took.items()}
    return {
        "users": users,
        "different files": len(files),
        "seconds": {name: round(value, 1) for name, value in middle.items()},
        "two workers are so many times one": round(
            (middle["1 workers of the cluster"] - fixed) / (middle["2 workers of the cluster"] - fixed), 2
        ),
        f"fixed cost, s ({some.skipped} without a list)": round(fixed, 1),
    }


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
