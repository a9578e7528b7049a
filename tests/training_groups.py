"""The towers of a small shop trained by several processes; as a program, by those of a launch.

python training_groups.py WORKSPACE    under `torchrun`: prints in the first process what it came to
"""

import json
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from settings_for_tests import SMALL_ALIGNMENT

from molar_retrieval.models.alignment import align, help_to_align
from molar_retrieval.models.towers.distributed import ALONE, Group, GroupJob, Processes
from molar_retrieval.progress import Notes, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings


def aligned(workspace: Path, group: Group | None, processes: Processes = ALONE, **more: Any) -> dict[str, Any]:
    """Align with one thread; what came of it, without what it took."""
    settings = MolarSettings.model_validate({"align": SMALL_ALIGNMENT | more})
    notes, heard = Notes(), list[int]()
    report = align(
        Workspace(workspace), settings, group=group, processes=processes, progress=notes,
        on_epoch=lambda score: heard.append(score.epoch),
    )  # fmt: skip
    curve = [{**asdict(score), "seconds": 0} for score in report.curve]
    model = fingerprint.of_file(report.folder / "model.safetensors")
    return {"model": model, "curve": curve, "scores": report.scores, "heard": heard, "notes": notes.notes}


@dataclass(frozen=True)
class DeadlyJob:
    """Another training, whose second rank is killed after its first epoch, as often as ``times`` says."""

    job: GroupJob
    marks: Path
    times: int
    task: str
    folder: Path
    gpu: bool
    threads: int

    def rounds(self, processes: Processes) -> Iterator[list[dict[str, Any]]]:
        for place, scores in enumerate(self.job.rounds(processes)):
            if not place:
                (self.marks / f"began{len(scores)}").touch()
            if len(scores) and processes.index == 1:
                for number in range(self.times):
                    with suppress(FileExistsError):
                        (self.marks / f"died{number}").mkdir()
                        os.kill(os.getpid(), signal.SIGKILL)
            yield scores


@dataclass(frozen=True)
class Killing(Group):
    """Another group, of which a rank is killed so many times."""

    group: Group
    marks: Path
    times: int = 1

    def for_work(self, *, gpu: bool) -> Group:
        found = self.group.for_work(gpu=gpu)
        assert found is not None
        return Killing(found, self.marks, self.times)

    def rounds(self, job: GroupJob, progress: Progress) -> Generator[list[dict[str, Any]]]:
        deadly = DeadlyJob(job, self.marks, self.times, job.task, job.folder, job.gpu, job.threads)
        yield from self.group.rounds(deadly, progress)


if __name__ == "__main__":
    processes, place = Processes.of_launcher(), Path(sys.argv[1])
    if processes.first:
        sys.stdout.write(json.dumps(aligned(place, None, processes)) + "\n")
    else:
        help_to_align(Workspace(place), processes)
