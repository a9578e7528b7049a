"""Checkpoints of a run: a safetensors file with adapter, optimiser moments and the story, replaced atomically."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.finetuning.fit import Name
from molar_retrieval.finetuning.lora.learner import Learner, move_weights

LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True)
class Score:
    """What the steps up to one brought.

    Attributes:
        step: How many steps were taken.
        scores: How well withheld items are found, by task.
        losses: Mean losses since the score before, by task; those of writing end in ``words``.
    """

    step: int
    scores: dict[Name, float]
    losses: dict[str, float]

    @property
    def mean(self) -> float:
        """The mean over the tasks, by which the best step is known."""
        return sum(self.scores.values()) / len(self.scores)


@dataclass
class Story:
    """The course of a run.

    Attributes:
        run: Fingerprint of data and settings; a checkpoint of another run is not continued.
        chunk: Items in one forward pass, as far as memory allowed.
        step: Steps taken.
        scores: One before the first step, then some.
        losses: Sums of losses since the last score.
    """

    run: str
    chunk: int
    step: int = 0
    scores: list[Score] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> Score:
        """The highest score, the earlier of equals."""
        return max(self.scores, key=lambda score: (score.mean, -score.step))


def save(folder: Path, learner: Learner, optimiser: torch.optim.Optimizer, story: Story) -> None:
    """Write the state after a step, and the adapter apart where it was just found to be the best.

    The best adapter goes first: killed in between, the run repeats its steps and writes the same again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    adapter = {f"adapter.{name}": tensor for name, tensor in learner.trained().items()}
    if story.scores and story.best is story.scores[-1] and story.best.step == story.step:
        _write(folder / BEST, adapter, story)
    moments = {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }
    _write(folder / LAST, adapter | moments, story)


def load(folder: Path, learner: Learner, optimiser: torch.optim.Optimizer, new: Story) -> Story:
    """Go on where an earlier process was: fills adapter and optimiser; ``new`` without a checkpoint of this run."""
    found = _read(folder / LAST)
    if found is None or found[0].run != new.run:
        return new
    story, tensors = found
    move_weights(learner, _under(tensors, "adapter.").items())
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimiser.").items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return story


def load_best(folder: Path, learner: Learner, run: str) -> Score | None:
    """Fill the adapter with the best weights of a run, and tell their score; None where there are none yet."""
    found = _read(folder / BEST)
    if found is None or found[0].run != run:
        return None
    story, tensors = found
    move_weights(learner, _under(tensors, "adapter.").items())
    return story.best


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _write(path: Path, tensors: Mapping[str, Tensor], story: Story) -> None:
    temporary = path.with_suffix(".writing")
    metadata = {"story": json.dumps(asdict(story))}
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, metadata)
    temporary.replace(path)


def _read(path: Path) -> tuple[Story, dict[str, Tensor]] | None:
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            raw = json.loads(file.metadata()["story"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return Story(**raw | {"scores": [Score(**score) for score in raw["scores"]]}), tensors
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StaleArtefactError(f"{path} is unreadable: {error}", "run `molar finetune --restart`") from error
