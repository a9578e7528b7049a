"""Several processes with one network: shares, means, one decision; a launch publishes once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from copies import copy_workspace
from processes_child import SETTINGS, data_of
from settings_for_tests import SMALL_ALIGNMENT

from molar_retrieval import rng
from molar_retrieval.models.towers.batches import plan, training_batches, training_windows
from molar_retrieval.models.towers.distributed import ALONE, Processes, threads
from molar_retrieval.models.towers.trainer import warm_cosine
from molar_retrieval.models.towers.training import TowerTrainer

CHILD = Path(__file__).resolve().parents[1] / "processes_child.py"


@pytest.fixture
def launch(warm):
    """Runs a program in two processes as ``torchrun`` does, on loopback."""
    return lambda program, *arguments: warm.run(CHILD.with_name("launched.py"), 2, program, *arguments)


@pytest.mark.parametrize(("batches", "count"), [(0, 3), (1, 2), (6, 3), (7, 3), (8, 3)])
def test_everybody_has_as_many_batches_and_nothing_is_left_out(batches, count):
    shares = [Processes(index, count).share(list(range(batches))) for index in range(count)]
    assert len({len(share) for share in shares}) == 1
    assert {batch for share in shares for batch in share} == set(range(batches))
    assert sum(map(len, shares)) < batches + count


def test_one_process_needs_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert Processes.of_launcher() == ALONE
    assert ALONE.first
    assert not ALONE.several
    batches = [1, 2, 3]
    assert ALONE.share(batches) is batches
    assert ALONE.agreed("this") == "this"


class Apart(Processes):
    """One of two, which does not meet the other: what would come of it is computed here."""

    def average(self, parameters):
        pass


def by_hand():
    """An epoch whose steps go along the mean of two batches' losses, each with negatives and dropout of its own."""
    trainer = TowerTrainer(data_of(), SETTINGS, "run", Apart(0, 2))
    drawn = rng.generator(SETTINGS.seed, "batches", 1)
    batches = training_batches(trainer.data.log, trainer.windows, trainer.batch_tokens, drawn)
    sides = []
    for index, other in ((0, []), (1, [1])):
        torch.manual_seed(rng.derive_seed(SETTINGS.seed, "dropout", 1, *other))
        negatives = rng.generator(SETTINGS.seed, "negatives", 1, *other) if other else drawn
        sides.append([Processes(index, 2).share(batches), negatives, torch.get_rng_state()])
    trainer.network.train()
    parameters = list(trainer.network.parameters())
    for step in range(len(sides[0][0])):
        gradients = []
        for side in sides:
            share, negatives, state = side
            torch.set_rng_state(state)
            trainer.optimiser.zero_grad()
            trainer._loss(share[step], negatives).backward()
            gradients.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters])
            side[2] = torch.get_rng_state()
        for parameter, *both in zip(parameters, *gradients, strict=True):
            parameter.grad = (both[0] + both[1]) / 2
        warm_up = min(200, max(1, trainer.steps // 10))
        trainer.update(SETTINGS.learning_rate * warm_cosine(trainer.state.step, trainer.steps, warm_up))
    return {name: float(p.detach().double().sum()) for name, p in trainer.network.named_parameters()}


@pytest.mark.slow
def test_two_processes_hold_one_network(launch, tmp_path):
    done = launch(CHILD, tmp_path)
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2))
    assert one == other  # the validation score too: it is told, not computed twice
    assert one["agreed"] == {"from": 0}
    assert one["means"] == [[1.5], [0.5]]
    assert one["device"] == "cpu"
    batches = plan(training_windows(data_of().log, SETTINGS.max_history).length - 1, SETTINGS.batch_tokens // 2)
    assert one["steps"] == -(-len(batches) // 2) < len(batches)
    with threads(1):
        assert one["weights"] == pytest.approx(by_hand(), rel=1e-5)


@pytest.mark.slow
def test_a_launch_trains_together_and_publishes_once(launch, trained, tmp_path):
    workspace = tmp_path / ".molar"
    copy_workspace(trained.workspace, workspace, ignore=shutil.ignore_patterns("alignment", "generations"))
    small = "\n".join(f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items())
    (tmp_path / "molar.toml").write_text(f"[align]\n{small}")
    molar = Path(sys.executable).with_name("molar")
    done = launch(molar, "align", "--workspace", workspace, "--epochs", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("published: generation") == 1
    assert "epochs by 2 processes, " in done.stdout
    assert len([line for line in done.stderr.splitlines() if line.startswith("epoch ")]) == 2
    assert len(list((workspace / "alignment").glob("*/manifest.json"))) == 1
    again = launch(molar, "align", "--workspace", workspace, "--epochs", 2)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("up to date") == 1


@pytest.mark.slow
def test_what_stops_the_first_process_stops_all(tmp_path):
    """By `torchrun` itself, whose workers are programs of their own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    program = [Path(sys.executable).with_name("molar"), "align", "--workspace", tmp_path / "nothing"]
    done = subprocess.run([*command, *program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert "workspace" in done.stderr
