"""What tests/unit/test_cluster_ray.py does in a namespace of a network of its own, where Ray keeps to the loopback.

cluster_child.py hold             makes the namespace, with the loopback up, and waits for the end of standard input
cluster_child.py run NAME JSON    calls a function of this module, whose result it prints as JSON

What one function needs alone it imports, as each call is two processes.
"""

import fcntl
import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import ray_cluster
from shard_jobs import Killing, SquaresJob, shards

from molar_retrieval.errors import MolarError
from molar_retrieval.progress import Notes
from molar_retrieval.workspace.ray_jobs import ClusterAddress, RayRunner, cluster_nodes

_SET_FLAGS, _UP, _RUNNING = 0x8914, 0x1, 0x40


def up(workspace: str, name: str, join: bool) -> None:
    ray_cluster.up(Path(workspace), name, join=join, cpus=2)


def down(workspace: str, name: str) -> None:
    ray_cluster.down(Path(workspace), name)


def nodes(workspace: str) -> list[dict[str, Any]]:
    return [vars(node) for node in cluster_nodes(_address(workspace))]


def knock(workspace: str, token: str | None) -> dict[str, Any]:
    """What the cluster says to somebody with another token, or with none."""
    address = _address(workspace)
    told: dict[str, Any] = {"access": address.access()}
    if token is not None:
        wrong = Path(workspace, "wrong")
        wrong.write_text(token)
        try:
            told["nodes"] = [vars(node) for node in cluster_nodes(ClusterAddress(address.url, wrong))]
        except MolarError as error:
            told["error"] = error.message
    return told


def squared(workspace: str, folder: str, count: int, workers: int | None, **job: Any) -> dict[str, Any]:
    progress = Notes()
    try:
        report = RayRunner(_address(workspace), workers).run(SquaresJob(Path(folder), **job), shards(count), progress)
    except MolarError as error:
        return {"error": error.message, "kind": type(error).__name__, "notes": progress.notes}
    return {"made": report.made, "notes": progress.notes, "told": report.notes}


def recommended(workspace: str, shop: str, folder: str, size: int) -> dict[str, Any]:
    """Lists by this process, and by one, two and four workers of the cluster."""
    from molar_indexes import batch

    batch._SHARD = size
    told = {}
    for workers in (0, 1, 2, 4):
        runner = RayRunner(_address(workspace), workers) if workers else None
        report = batch.recommend(Path(shop), Path(folder, f"{workers}.parquet"), k=5, runner=runner)
        told[workers] = {"shards": report.shards, "made": report.made, "users": report.users}
    return told


def embedded(workspace: str, shop: str, folder: str) -> dict[str, Any]:
    """Vectors by the cluster, of a catalogue that is prepared, after a worker was killed over them."""
    from embedding_fakes import FakePlanner

    from molar_retrieval.embedding import embed, pipeline
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import EmbedSettings

    pipeline._BATCHES = 1
    planner = FakePlanner(died=Path(folder, "died"))
    progress = Notes()
    report = embed(
        Workspace(Path(shop)), EmbedSettings(batch_size=4), planner=planner, runner=RayRunner(_address(workspace)),
        progress=progress,
    )  # fmt: skip
    return {"encoded": report.encoded, "notes": progress.notes}


def ranked(workspace: str, folder: str) -> dict[str, Any]:
    """Cases ranked by this process, and by two workers, of whom the first is killed."""
    import numpy as np
    from eval_model_tasks import log_of
    from ranking_fakes import LastFiles

    from molar_eval import model_runs
    from molar_eval.cases import Cases
    from molar_eval.model_runs import RankingJob
    from molar_eval.models.base import EvaluationTask
    from molar_retrieval.workspace.jobs import SerialRunner

    random, told = np.random.default_rng(3), {}
    log = log_of([random.integers(0, 40, n).tolist() for n in random.integers(2, 25, 120)], 40)
    asked = np.arange(log.n_users)
    cases = Cases.single(log, asked, np.diff(log.offsets) - 1, log.item[log.offsets[1:] - 1])
    task, memory = EvaluationTask(log, cases, np.ones(40, bool), None, "hide", Path(folder)), 12 * 16 * 40
    model_runs.SCORES = 16 * 40
    for workers in (0, 2):
        progress, own = Notes(), Path(folder, str(workers))
        own.mkdir()
        runner = Killing(RayRunner(_address(workspace), workers), own) if workers else SerialRunner()
        lists = RankingJob(own, LastFiles(), 40, 10, "hide", memory, "ranking").make(cases, task, runner, progress)
        told[workers] = {"cases": len(lists.items), "notes": progress.notes}
    return told


def trained(workspace: str, shop: str, folder: str, ranks: int, times: int, **more: Any) -> dict[str, Any]:
    """An alignment whose towers so many ranks of the cluster train, of whom the second is killed so many times."""
    import training_groups

    from molar_retrieval.models.towers.ray_training import RayTrainingGroup

    group = training_groups.Killing(RayTrainingGroup(_address(workspace), ranks), Path(folder), times)
    try:
        return training_groups.aligned(Path(shop), group, **more)
    except MolarError as error:
        return {"error": error.message}


def _address(workspace: str) -> ClusterAddress:
    return ray_cluster.address_of(Path(workspace))


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        with socket.socket() as any_one:
            fcntl.ioctl(any_one, _SET_FLAGS, struct.pack("16sh", b"lo", _UP | _RUNNING))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
    else:
        sys.stdout.write(json.dumps(globals()[sys.argv[2]](**json.loads(sys.argv[3]))))
