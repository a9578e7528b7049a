"""Several processes that train one network, one per GPU, by `accelerate launch`, `torchrun` or on a cluster; else one.

All processes hold the whole network and see the same epoch; each takes its share of the batches, and gradients are
averaged. The first process decides, validates, writes and publishes.
"""

import atexit
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import nn

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
