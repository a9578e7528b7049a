"""Work in shards for tests: squares of numbers, by workers that can be slow, fail and die."""

import os
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from molar_retrieval.errors import DataError
from molar_retrieval.progress import Progress
from molar_retrieval.workspace.jobs import Runner, SerialRunner, Shard, ShardJob, ShardWork, atomic_file


@dataclass(frozen=True)
class SquaresJob:
    """Squares; ``bad`` is refused, ``deadly`` kills its worker so many ``times``, and each takes ``seconds``."""

    folder: Path
    bad: int | None = None
    deadly: int | None = None
    times: int = 1
    ended_by: int = signal.SIGKILL
    seconds: float = 0.0
    task: str = "squaring"
    gpu: bool = False

    def path(self, shard: int) -> Path:
        return self.folder / f"{shard}.txt"

    def is_whole(self, shard: int) -> bool:
        return self.path(shard).exists()

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        with (self.folder / "opened").open("a") as file:
            file.write(f"{os.getpid()}\n")
        standing = [True]
        try:
            yield lambda shard: self.work(shard, standing)
        finally:
            standing.clear()

    def work(self, shard: Shard, standing: list[bool]) -> Sequence[str]:
        assert standing, "it was closed"
        if shard.number == self.bad:
            raise DataError("this one cannot be done", "leave it out")
        died = len(list(self.folder.glob("died*")))
        if shard.number == self.deadly and died < self.times:
            (self.folder / f"died{died}").touch()
            os.kill(os.getpid(), self.ended_by)
        time.sleep(self.seconds)
        with atomic_file(self.path(shard.number)) as partial:
            partial.write_text(str(shard.given**2))
        return ["some are small"]


def shards(count: int) -> list[Shard]:
    return [Shard(n, 2, n * 10) for n in range(count)]


def contents(folder: Path) -> dict[str, str]:
    """Whole files; of a worker that was killed there may be others."""
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


def squares(count: int) -> dict[str, str]:
    return {f"{n}.txt": str((n * 10) ** 2) for n in range(count)}


class Stopping(Runner):
    """This process, which is interrupted after so many shards of a work; then it goes on to the end."""

    def __init__(self, after: int) -> None:
        self.left = after

    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        for done in SerialRunner()._made(job, missing, progress):
            yield done
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@dataclass(frozen=True)
class DeadlyJob:
    """Another job, whose first worker is killed before it has made anything."""

    job: ShardJob
    folder: Path

    @property
    def task(self) -> str:
        return self.job.task

    @property
    def gpu(self) -> bool:
        return self.job.gpu

    def path(self, shard: int) -> Path:
        return self.job.path(shard)

    def is_whole(self, shard: int) -> bool:
        return self.job.is_whole(shard)

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        with self.job.opened() as work:

            def deadly(shard: Shard) -> Sequence[str]:
                with suppress(FileExistsError):
                    (self.folder / "died").mkdir()
                    os.kill(os.getpid(), signal.SIGKILL)
                return work(shard)

            yield deadly


class Killing(Runner):
    """Another runner, of whose workers one is killed."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        self.runner, self.folder = runner, folder

    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        yield from self.runner._made(DeadlyJob(job, self.folder), missing, progress)
        assert (self.folder / "died").exists()
