"""Where a network is trained: devices, precision, and several processes, one per GPU."""

import atexit
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import torch
from torch import nn

from molar_retrieval.errors import SettingsError
from molar_retrieval.progress import Progress

if TYPE_CHECKING:
    pass


def pick_device(name: str) -> torch.device:
    """The device that a setting names, SettingsError without it; ``auto``: CUDA where there is any, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"the device {name!r} is not available: {error}", "use device = 'auto' or 'cpu'") from error
    return device


def pick_precision(setting: str, device: torch.device) -> str:
    """``bfloat16`` where the hardware multiplies it natively, else ``float32``; a named precision is taken as it is."""
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bfloat16" if device.type == "cpu" and supported() else "float32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Matrix products in ``precision`` inside the context; losses stay in float32 by their own means."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many CPU threads, put back afterwards; None: as many as there are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


T = TypeVar("T")
_PATIENCE = timedelta(days=1)
"""How long others wait for the first process, which may be at the factors of a large log."""


@dataclass(frozen=True)
class Processes:
    """The processes of this run, as the launcher set them.

    Attributes:
        index: The number of this one, from 0.
        count: How many there are.
        patience: How long they wait for each other; then those that are left end with an error.
    """

    index: int = 0
    count: int = 1
    patience: timedelta = _PATIENCE

    @classmethod
    def of_launcher(cls) -> "Processes":
        """As the environment says that `accelerate launch` and `torchrun` set."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this one decides, writes and publishes."""
        return self.index == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    @cached_property
    def _state(self) -> Any:
        from accelerate import PartialState  # takes a second to load, and most runs have one process

        state = PartialState(cpu=not torch.cuda.is_available(), timeout=self.patience)
        atexit.register(state.destroy_process_group)  # threads of it that still run when Python is gone end in an abort
        return state

    @property
    def device(self) -> torch.device:
        """What the launcher gave to this process, where there are several."""
        device: torch.device = self._state.device
        return device

    def agreed(self, value: T) -> T:
        """The value that the first process has; the others wait for it."""
        if not self.several:
            return value
        from accelerate.utils import broadcast_object_list

        assert self._state is not None
        values: list[T] = broadcast_object_list([value], from_process=0)
        return values[0]

    def share(self, batches: Sequence[T]) -> Sequence[T]:
        """Every ``count``-th of the batches, as many for each process: some come twice where they do not divide."""
        if not self.several:
            return batches
        missing = -len(batches) % self.count
        return [*batches, *batches[:missing]][self.index :: self.count]

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Bring gradients to their mean over the processes; one that is missing is 0."""
        if not self.several:
            return
        from accelerate.utils import reduce

        assert self._state is not None
        chosen = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in chosen])
        mean = reduce(flat, reduction="mean")
        for parameter, part in zip(chosen, mean.split([p.numel() for p in chosen]), strict=True):
            parameter.grad = part.view_as(parameter).clone()


ALONE = Processes()
"""The one process of a run that no launcher started."""


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
