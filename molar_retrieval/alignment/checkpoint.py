"""Checkpoints: one safetensors file with weights, optimiser moments and the story so far, replaced atomically."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from molar_retrieval.errors import StaleArtefactError

LAST = "checkpoint.safetensors"
BEST = "best.safetensors"
_WRITING = ".writing"
FILES = tuple(name for file in (LAST, BEST) for name in (file, str(Path(file).with_suffix(_WRITING))))
"""What only an unfinished run needs."""


@dataclass(frozen=True)
class EpochScore:
    """What one epoch brought.

    Attributes:
        epoch: Number of the epoch, from 1.
        loss: Mean training loss per interaction (all terms).
        ndcg: Validation NDCG@10 of the towers' sum.
        recall: Its Recall@10.
        towers: Validation NDCG@10 of each tower alone.
        seconds: Time of the epoch, its validation included.
    """

    epoch: int
    loss: float
    ndcg: float
    recall: float
    towers: dict[str, float]
    seconds: float


@dataclass
class Story:
    """The course of a training run.

    Attributes:
        run: Fingerprint of data and settings; a checkpoint of another run is not continued.
        epochs: One score per finished epoch.
        step: Optimiser steps taken.
    """

    run: str
    epochs: list[EpochScore] = field(default_factory=list)
    step: int = 0

    @property
    def best(self) -> EpochScore | None:
        """The epoch with the highest validation NDCG@10, the earlier of equals."""
        return max(self.epochs, key=lambda e: (e.ndcg, -e.epoch), default=None)


def save(folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, story: Story) -> None:
    """Write the state after an epoch, and the weights apart where they are the best so far.

    The best weights go first: killed in between, the run repeats this epoch and writes the same again.
    """
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    if story.best is story.epochs[-1]:
        _write(folder / BEST, weights, story)
    moments = {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }
    _write(folder / LAST, weights | moments, story)


def load(folder: Path, run: str, network: nn.Module, optimiser: torch.optim.Optimizer) -> Story:
    """Continue the run of an earlier process: fills network and optimiser, returns its story.

    A new story where there is no checkpoint of this run.
    """
    story, tensors = _read(folder / LAST)
    if story is None or story.run != run:
        return Story(run)
    network.load_state_dict(_under(tensors, "network."))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimiser.").items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return story


def load_best(folder: Path, network: nn.Module) -> None:
    """Fill the network with the weights of the best epoch."""
    _, tensors = _read(folder / BEST)
    network.load_state_dict(_under(tensors, "network."))


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _write(path: Path, tensors: dict[str, Tensor], story: Story) -> None:
    temporary = path.with_suffix(_WRITING)
    metadata = {"story": json.dumps(asdict(story))}
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)
    temporary.replace(path)


def _read(path: Path) -> tuple[Story | None, dict[str, Tensor]]:
    if not path.exists():
        return None, {}
    try:
        with safe_open(path, "pt") as file:
            raw: dict[str, Any] = json.loads(file.metadata()["story"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, ValueError) as error:
        raise StaleArtefactError(f"{path} is unreadable: {error}", "run `molar align --restart`") from error
    epochs = [EpochScore(**e) for e in raw["epochs"]]
    return Story(raw["run"], epochs, raw["step"]), tensors
