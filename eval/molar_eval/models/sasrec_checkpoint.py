"""SASRec's checkpoint: weights, the best weights so far, optimiser and story in one file, replaced atomically."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_FILE = "checkpoint.safetensors"
_NETWORK, _BEST, _OPTIMISER = "network.", "best.", "optimiser."


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought: mean loss per interaction, validation NDCG@10, seconds with validation."""

    loss: float
    ndcg: float
    seconds: float


@dataclass
class Story:
    """The finished epochs of a run."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> int:
        """Number, from 1, of the epoch with the highest validation NDCG@10, the earlier of equals; 0 without any."""
        numbers = range(1, len(self.epochs) + 1)
        return max(numbers, key=lambda number: (self.epochs[number - 1].ndcg, -number), default=0)


def save(
    folder: Path, network: nn.Module, best: dict[str, Tensor], optimiser: torch.optim.Optimizer, story: Story
) -> None:
    """Write the state after an epoch."""
    tensors = {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    tensors |= {_BEST + name: tensor for name, tensor in best.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{_FILE}.writing"
    # Copies, because a file must not name one block of memory twice.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, partial, {"story": json.dumps(asdict(story))})
    partial.replace(folder / _FILE)


def load(folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Story]:
    """Fill network and optimiser from the last epoch of an earlier process; returns its best weights and story."""
    if not (folder / _FILE).exists():
        return {}, Story()
    with safe_open(folder / _FILE, "pt") as file:
        story = json.loads(file.metadata()["story"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    network.load_state_dict(_under(tensors, _NETWORK))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, _OPTIMISER).items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return _under(tensors, _BEST), Story([Epoch(**epoch) for epoch in story["epochs"]])


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
