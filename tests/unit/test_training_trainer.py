"""The loop that all training shares: rounds, patience, checkpoints that another run or an earlier molar left."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file

from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models.towers import trainer as checkpoint
from molar_retrieval.models.towers.trainer import Trainer, TrainingState, warm_cosine


@dataclass(frozen=True)
class Score:
    number: int
    value: float


class Line(Trainer[Score]):
    """Fits one number; the scores of its rounds are given."""

    score_type = Score

    def __init__(self, course, run="run", rounds=10, patience=10):
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.course = course
        optimiser = torch.optim.AdamW([self.weight], lr=0.1)
        weights = {"weight": self.weight}
        super().__init__(
            weights, optimiser, TrainingState(run), rounds=rounds, patience=patience, remedy="say --restart"
        )

    def _round(self, progress):
        number = len(self.state.scores)
        if number == len(self.course):
            raise KeyboardInterrupt
        self.optimiser.zero_grad()
        ((self.weight - 3) ** 2).sum().backward()
        self.update(0.1)
        return Score(number, self.course[number])


def test_the_best_weights_stay_and_the_earlier_of_equals_is_best(tmp_path):
    trainer, seen = Line([0.1, 0.5, 0.2, 0.5, 0.4]), []
    trainer.patience = 3
    best = trainer.train(tmp_path, on_score=lambda score: seen.append((score, trainer.weight.detach().clone())))
    assert best == Score(1, 0.5)
    assert [score.number for score, _ in seen] == [0, 1, 2, 3, 4]
    assert trainer.done
    assert torch.equal(trainer.weight, seen[1][1])


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, after):
    course = [0.1, 0.3, 0.2, 0.4]
    whole = Line(course, rounds=4)
    whole.train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        Line(course[:after], rounds=4).train(tmp_path / "killed")
    resumed, told = Line(course, rounds=4), []
    assert resumed.train(tmp_path / "killed", on_score=told.append) == Score(3, 0.4)
    assert torch.equal(resumed.weight, whole.weight)
    assert resumed.state == whole.state
    assert [score.number for score in told] == [0, 1, 2, 3]


def test_killed_between_its_two_files_a_run_writes_the_same_again(tmp_path, monkeypatch):
    course, write = [0.1, 0.3], checkpoint._write
    whole = Line(course, rounds=2)
    whole.train(tmp_path / "whole")

    def dying(path, tensors, state):
        write(path, tensors, state)
        if path.name == checkpoint.BEST and len(state["scores"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_write", dying)
    with pytest.raises(KeyboardInterrupt):
        Line(course, rounds=2).train(tmp_path / "killed")
    monkeypatch.undo()
    resumed = Line(course, rounds=2)
    resumed.train(tmp_path / "killed")
    assert torch.equal(resumed.weight, whole.weight)
    for name in (checkpoint.LAST, checkpoint.BEST):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_run_is_not_continued(tmp_path):
    Line([0.9], rounds=1).train(tmp_path)
    other = Line([0.1], run="other", rounds=1)
    assert other.train(tmp_path) == Score(0, 0.1)


def test_what_cannot_be_continued_says_what_to_do(tmp_path):
    (tmp_path / checkpoint.LAST).write_bytes(b"torn")
    with pytest.raises(StaleArtefactError, match="unreadable") as raised:
        Line([0.1]).train(tmp_path)
    assert raised.value.hint == "say --restart"
    (tmp_path / checkpoint.LAST).unlink()
    save_file({"network.weight": torch.zeros(2)}, tmp_path / checkpoint.LAST, {"story": "{}"})
    with pytest.raises(StaleArtefactError, match="an earlier molar"):
        Line([0.1]).train(tmp_path)


def test_the_rate_rises_then_falls_to_a_twentieth():
    rates = [warm_cosine(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=1e-3)
    assert max(rates) == rates[9]
    assert rates[100] == pytest.approx(0.05)
    assert all(later < earlier for earlier, later in pairwise(rates[9:]))
