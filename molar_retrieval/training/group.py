"""A network that is trained by a group of processes elsewhere, one per GPU, while this one waits for their scores.

What they train lies in a folder that all of them see, after each round. So a group of which one process dies is begun
again from the last whole round, and a run whose program was killed goes on there, by whatever group.
"""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from molar_retrieval.progress import Progress

if TYPE_CHECKING:
    from molar_retrieval.training.processes import Processes


class GroupJob(Protocol):
    """What a group trains. It is pickled, and its paths are absolute."""

    @property
    def task(self) -> str:
        """What the progress calls it."""

    @property
    def folder(self) -> Path:
        """Where the rounds lie."""

    @property
    def gpu(self) -> bool:
        """Whether each process takes a GPU, where there are any."""

    @property
    def threads(self) -> int:
        """CPU threads of each process."""

    def rounds(self, processes: "Processes") -> Iterator[list[dict[str, Any]]]:
        """Train as one of the processes: yields all scores so far, at once and after each round; they are JSON-able."""


@dataclass(frozen=True)
class PackedJob:
    """A job, and what one must know of it without unpacking it, which loads torch."""

    task: str
    folder: Path
    gpu: bool
    threads: int
    packed: bytes

    @classmethod
    def of(cls, job: GroupJob) -> Self:
        """Pack a job."""
        return cls(job.task, job.folder, job.gpu, job.threads, pickle.dumps(job))


class Group(ABC):
    """Processes elsewhere that train together."""

    @abstractmethod
    def for_work(self, *, gpu: bool) -> "Group | None":
        """Who trains, on GPUs where it may use them; None: this process."""

    @abstractmethod
    def rounds(self, job: GroupJob, progress: Progress) -> Generator[list[dict[str, Any]]]:
        """Have a job done: yields all scores so far, whenever there are more."""
