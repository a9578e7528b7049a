"""Towers trained by this process, by one rank of a cluster and by two, in a namespace whose network is the loopback.

Run as `python bench/ranks.py WORKSPACE`, as root or where `unshare --map-root-user` is allowed, on a workspace with
content vectors and a log: a copy of it gets a cluster of two machines of one CPU each. EPOCHS (8) and PATIENCE are set
alike for all; steps of two ranks are made once as large as two of one process, and once as large as one. Processor
seconds are those of all that train, from the first step to the last epoch, without what it takes to start them.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster import two_machines, with_loopback

from molar_retrieval.models.alignment import TrainingJob
from molar_retrieval.models.als import factorise, held_out
from molar_retrieval.models.towers.distributed import ALONE, Processes
from molar_retrieval.models.towers.ray_training import RayTrainingGroup
from molar_retrieval.models.towers.training import sized
from molar_retrieval.progress import SILENT, Notes
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.settings import AlignSettings, ALSSettings, SplitSettings

EPOCHS = int(os.environ.get("EPOCHS", "8"))


@dataclass(frozen=True)
class Measured(TrainingJob):
    """A training whose processes write down how many seconds of the processor they took since the first step."""

    def rounds(self, processes: Processes) -> Iterator[list[dict[str, Any]]]:
        before = 0.0
        for scores in super().rounds(processes):
            before = before if scores else time.process_time()
            (self.folder / f"{processes.index}.seconds").write_text(str(time.process_time() - before))
            yield scores


def main(workspace: Path) -> None:
    with two_machines(workspace) as (place, address, took):
        told: dict[str, Any] = {"two machines up, s": round(took, 1)}
        job = job_of(place)
        told |= {"interactions per step": job.settings.batch_tokens, "epochs": EPOCHS}
        doubled = job.settings.model_copy(update={"batch_tokens": 2 * (job.settings.batch_tokens or 0)})
        ways = {
            "this process": (0, job), "1 rank": (1, job), "2 ranks": (2, job),
            "2 ranks, steps twice as large": (2, replace(job, settings=doubled)),
        }  # fmt: skip
        told |= {name: trained(address, *way, place.with_name(name)) for name, way in ways.items()}
    print(json.dumps(told, indent=1))


def job_of(place: Path) -> Measured:
    workspace = Workspace(place)
    with pin(workspace, "catalogue", "content", "interactions", work="bench") as read:
        factors = factorise(read, ALSSettings(), SplitSettings(), SILENT, people=True)
        settings = AlignSettings(epochs=EPOCHS, patience=EPOCHS, threads=1, precision="float32", device="cpu")
        settings = sized(settings, held_out(read, SplitSettings()).training)
        names = read.names | {"als": factors.folder.name}
    return Measured(place, settings, SplitSettings(), place, "bench", names, 1)


def trained(address: Any, ranks: int, job: Measured, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    job, notes, begun = replace(job, folder=folder), Notes(), time.perf_counter()
    rounds = RayTrainingGroup(address, ranks).rounds(job, notes) if ranks else job.rounds(ALONE)
    with closing(rounds):
        *_, scores = rounds
    best = max(scores, key=lambda score: score["ndcg"])
    seconds = [float(path.read_text()) for path in folder.glob("*.seconds")]
    return {
        "validation NDCG@10": round(best["ndcg"], 4),
        "in epoch": best["epoch"],
        "all epochs": [round(score["ndcg"], 4) for score in scores],
        "processor seconds": round(sum(seconds)),
        "of the slowest": round(max(seconds)),
        "seconds": round(time.perf_counter() - begun),
        "seconds of the epochs": round(sum(score["seconds"] for score in scores)),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        with_loopback()
        beside = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(beside)  # the cluster's workers unpack what is defined here
        from ranks import main as measure

        measure(Path(sys.argv[2]))
    else:
        way = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--pid", "--fork"]
        way += ["--kill-child", "--mount-proc"]  # whatever ends this, nothing of it stays
        os.execvp("unshare", [*way, sys.executable, __file__, "--inside", *sys.argv[1:]])
