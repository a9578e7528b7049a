"""Checkpoints: weights, optimiser moments and the state of a run in one safetensors file, replaced atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.workspace.tensors import under

LAST = "checkpoint.safetensors"
BEST = "best.safetensors"
_WRITING = ".writing"
FILES = (LAST, BEST)
"""What only an unfinished run needs."""
_EARLIER = "last.safetensors"
"""What earlier versions of molar left of an adapter's run."""
_WEIGHTS, _OPTIMISER, _STATE = "weights.", "optimiser.", "state"
State = dict[str, Any]


def save(
    folder: Path, weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, state: State, *, best: bool
) -> None:
    """Write where a run is, in a JSON-able state; the best weights so far go apart, and first.

    Killed in between, the run repeats its last steps and writes the same again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = {_WEIGHTS + name: tensor for name, tensor in weights.items()}
    if best:
        _write(folder / BEST, named, state)
    moments = {
        f"{_OPTIMISER}{index}.{name}": torch.as_tensor(value)
        for index, moment in optimiser.state_dict()["state"].items()
        for name, value in moment.items()
    }
    _write(folder / LAST, named | moments, state)


def load(
    folder: Path, run: str, weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, remedy: str
) -> State | None:
    """Fill weights and optimiser with what an earlier process left, and return its state; None: nothing of this run.

    The state holds the run's fingerprint as ``run``. What was not written to its end is removed. StaleArtefactError if
    the file is unreadable.
    """
    for torn in folder.glob(f"*{_WRITING}"):
        torn.unlink(missing_ok=True)
    last = folder / LAST
    state, tensors = _filled(last if last.exists() else folder / _EARLIER, run, weights, remedy)
    if state is None:
        return None
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in under(tensors, _OPTIMISER).items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return state


def load_best(folder: Path, run: str, weights: Mapping[str, Tensor], remedy: str) -> State | None:
    """Fill the weights with the best of the run, and return the state at that time; see :func:`load`."""
    return _filled(folder / BEST, run, weights, remedy)[0]


def _filled(path: Path, run: str, weights: Mapping[str, Tensor], remedy: str) -> tuple[State | None, dict[str, Tensor]]:
    state, tensors = _read(path, remedy)
    if state is None or state["run"] != run:
        return None, {}
    with torch.no_grad():
        for name, tensor in under(tensors, _WEIGHTS).items():
            weights[name].copy_(tensor)
    return state, tensors


def _write(path: Path, tensors: Mapping[str, Tensor], state: State) -> None:
    temporary = path.with_name(f"{path.stem}.{uuid4().hex}{_WRITING}")  # a rank of a dead program may write yet
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(copies, temporary, {_STATE: json.dumps(state)})
    temporary.replace(path)


def _read(path: Path, remedy: str) -> tuple[State | None, dict[str, Tensor]]:
    if not path.exists():
        return None, {}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if _STATE not in metadata:
                raise StaleArtefactError(f"{path} is the unfinished run of an earlier molar", remedy)
            return json.loads(metadata[_STATE]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise StaleArtefactError(f"{path} is unreadable: {error}", remedy) from error
