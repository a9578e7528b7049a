"""The loop of a training: rounds of steps with a score after each, early stopping, checkpoints, resuming."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models.towers.distributed import ALONE, Processes
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.tensors import under

LAST = "checkpoint.safetensors"
BEST = "best.safetensors"
_WRITING = ".writing"
FILES = (LAST, BEST)
"""What only an unfinished run needs."""
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
    state, tensors = _filled(folder / LAST, run, weights, remedy)
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


_FINAL_RATE = 0.05
_STEEPEST = 1.0


class RoundScore(Protocol):
    """What a round of training brought: a dataclass of JSON-able values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def value(self) -> float:
        """By which the best round is known."""


S = TypeVar("S", bound=RoundScore)


@dataclass
class TrainingState(Generic[S]):
    """How far a run is."""

    run: str  # fingerprint of data and settings; a checkpoint of another run is not continued
    step: int = 0  # optimiser steps taken
    scores: list[S] = field(default_factory=list)  # one per finished round

    @property
    def best(self) -> S | None:
        """The highest score, the earlier of equals."""
        return max(self.scores, key=lambda score: score.value, default=None)

    @property
    def since_best(self) -> int:
        """Rounds after the best one."""
        return 0 if self.best is None else len(self.scores) - 1 - self.scores.index(self.best)


class Trainer(ABC, Generic[S]):
    """A run in memory; with one thread it is bit-equal when it is repeated, or killed and continued.

    A round draws all that is random from its own number, or from those of its steps. The ``weights`` that are trained
    are the tensors themselves, by name. After ``rounds``, or ``patience`` rounds without a better score, it stops. The
    ``remedy`` is what a user does about an unreadable checkpoint. The first process judges and writes.
    """

    score_type: ClassVar[type]
    """In which the scores of a checkpoint are read."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        optimiser: torch.optim.Optimizer,
        state: TrainingState[S],
        *,
        rounds: int,
        patience: int,
        remedy: str,
        processes: Processes = ALONE,
    ) -> None:
        self.weights, self.optimiser, self.state = weights, optimiser, state
        self.rounds, self.patience = rounds, patience
        self.processes, self._remedy = processes, remedy
        self.folder = Path()

    @property
    def done(self) -> bool:
        """Whether all rounds are over, or the score has not risen for long enough."""
        finished = len(self.state.scores)
        return finished >= self.rounds or (finished > 0 and self.state.since_best >= self.patience)

    @abstractmethod
    def _round(self, progress: Progress) -> S | None:
        """Train until the next score is due, and judge; the other processes of several return None."""

    def round(self, progress: Progress = SILENT) -> S:
        """One round: some steps, and the score that all processes agree on, which becomes part of the state."""
        agreed = self.processes.agreed(self._round(progress))
        assert agreed is not None
        self.state.scores.append(agreed)
        return agreed

    def train(
        self, folder: Path, progress: Progress = SILENT, on_score: Callable[[S], None] = lambda _: None
    ) -> S | None:
        """Train until done, continuing what an earlier process left in ``folder``; the best weights stay in place.

        ``on_score`` hears, in the first process, of each score once it is safe on disk, earlier ones included. The best
        one is returned, None where nothing could be trained. StaleArtefactError if the checkpoint is unreadable.
        """
        told = 0
        for scores in self.each_round(folder, progress):
            for score in scores[told:] if self.processes.first else ():
                on_score(score)
            told = len(scores)
        return self.restore_best()

    def each_round(self, folder: Path, progress: Progress = SILENT) -> Iterator[list[S]]:
        """Train until done: yields the scores so far, those in ``folder`` first, then after each round, which is safe.

        Errors as in :meth:`train`.
        """
        self.resume(folder)
        yield self.state.scores
        with torch.random.fork_rng():
            while not self.done:
                self.round(progress)
                self.save(judged=True)
                yield self.state.scores

    def resume(self, folder: Path) -> None:
        """Go on from what an earlier process left in ``folder``, where it left anything."""
        self.folder = folder
        found = load(folder, self.state.run, self.weights, self.optimiser, self._remedy)
        if found is not None:
            self.state = self._read(found)
        if self.processes.agreed(self.state.step) != self.state.step:
            raise RuntimeError(f"process {self.processes.index} does not see the checkpoint that the first one sees")

    def update(self, learning_rate: float) -> None:
        """Take a step along the gradients: their mean over the processes, at most of length 1."""
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.processes.average(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, _STEEPEST)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()
        self.state.step += 1

    def save(self, *, judged: bool = False) -> None:
        """Write where the run is, in the first process; ``judged`` where the last score is of these weights."""
        if self.processes.first:
            best = judged and self.state.since_best == 0
            save(self.folder, self.weights, self.optimiser, asdict(self.state), best=best)

    def restore_best(self) -> S | None:
        """Fill the weights with the best so far, in the first process, and tell their score; None: there are none."""
        if not self.processes.first:
            return self.state.best
        found = load_best(self.folder, self.state.run, self.weights, self._remedy)
        return None if found is None else self._read(found).best

    def _read(self, state: State) -> TrainingState[S]:
        return TrainingState(**state | {"scores": [self.score_type(**score) for score in state["scores"]]})


def warm_cosine(step: int, total: int, warm_up: float) -> float:
    """Share of the highest learning rate after a step: a linear warm-up of so many steps, at least 1, then a cosine.

    The cosine falls to a twentieth at the last step.
    """
    cosine = (1 + math.cos(math.pi * min(1.0, step / total))) / 2
    return min(1.0, (step + 1) / warm_up) * (_FINAL_RATE + (1 - _FINAL_RATE) * cosine)
