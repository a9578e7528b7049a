"""Training learns, reruns bit for bit, and continues after a kill as if nothing had happened."""

import numpy as np
import pytest
import torch

from molar_retrieval.alignment import checkpoint, conditioning
from molar_retrieval.alignment.training import Trainer, TrainingData, train, validate
from molar_retrieval.alignment.validation import Cases, ndcg
from molar_retrieval.collaborative.als import fit
from molar_retrieval.config import AlignSettings, CFSettings
from molar_retrieval.encoders.base import Block
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions import InteractionLog, holdout_last

N_ITEMS = 60
SMALL = AlignSettings(
    dim=16, blocks=1, content_blocks=1, history=12, epochs=3, batch_tokens=256, negatives=40, threads=1,
    precision="float32", device="cpu", learning_rate=5e-3, dropout=0.1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def walk_log(users=150, seed=0):
    """Everybody walks through the items in steps of +1 or +2: what comes next is easy to learn from the order."""
    random = np.random.default_rng(seed)
    histories = [(random.integers(N_ITEMS) + np.cumsum(random.integers(1, 3, 10))) % N_ITEMS for _ in range(users)]
    return InteractionLog(
        IdMap([f"u{n}" for n in range(users)]),
        IdMap([f"i{n}" for n in range(N_ITEMS)]),
        np.arange(0, 10 * users + 1, 10, dtype=np.int64),
        np.concatenate(histories).astype(np.int32),
        np.tile(np.arange(10, dtype=np.int64) * 3600, users),
    )


@pytest.fixture(scope="module")
def data():
    torch.set_num_threads(1)
    split = holdout_last(walk_log(), 1000, 0)
    angle = 2 * np.pi * np.arange(N_ITEMS) / N_ITEMS
    circle = np.stack([np.cos(angle), np.sin(angle), np.cos(3 * angle), np.sin(3 * angle)], 1).astype(np.float32)
    features = conditioning.fit(circle, [Block("content", 0, 4)], 4)(circle)
    cases = Cases(split.training, split.users.astype(np.int64), split.targets.astype(np.int64), np.ones(N_ITEMS, bool))
    factors = fit(split.training, CFSettings(factors=8, iterations=3))
    return TrainingData(split.training, cases, features, factors)


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def without_time(story):
    return [(e.epoch, e.loss, e.ndcg, e.recall, e.collaborative, e.content, tuple(e.weights)) for e in story.epochs]


def test_both_towers_learn_the_walk(data, tmp_path):
    network, story = train(data, SMALL.model_copy(update={"epochs": 8}), tmp_path, "run")
    final = validate(network, data, "float32")
    chance = np.mean([1 / np.log2(1 + r) if r <= 10 else 0 for r in range(1, N_ITEMS + 1)])
    assert ndcg(final.collaborative) > 3 * chance
    assert ndcg(final.content) > 2 * chance
    assert ndcg(final.together) >= max(ndcg(final.collaborative), ndcg(final.content))
    assert story.epochs[-1].loss < story.epochs[0].loss


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(data, tmp_path):
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        network, story = train(data, SMALL.model_copy(update={"seed": seed}), tmp_path / name, "run")
        runs.append((weights(network), without_time(story)))
    assert equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not equal(runs[0][0], runs[2][0])


@pytest.fixture(autouse=True)
def _folders(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_run_continues_as_if_undisturbed(data, tmp_path, monkeypatch, after):
    network, story = train(data, SMALL, tmp_path / "a", "run")

    def kill(self, progress):
        if len(self.story.epochs) == after:
            raise Killed
        return epoch(self, progress)

    epoch = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", kill)
    with pytest.raises(Killed):
        train(data, SMALL, tmp_path / "b", "run")
    monkeypatch.undo()
    continued, other = train(data, SMALL, tmp_path / "b", "run")
    assert equal(weights(network), weights(continued))
    assert without_time(story) == without_time(other)


def test_a_checkpoint_of_another_run_is_not_continued(data, tmp_path):
    one = SMALL.model_copy(update={"epochs": 1})
    train(data, one, tmp_path / "a", "run")
    trainer = Trainer(data, one, "other run")
    assert checkpoint.load(tmp_path / "a", "other run", trainer.network, trainer.optimiser).epochs == []


def test_the_process_keeps_its_own_random_state(data, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(data, SMALL.model_copy(update={"epochs": 1}), tmp_path / "a", "run")
    assert torch.equal(torch.rand(3), expected)


def test_the_item_table_starts_from_the_factors(data):
    table = Trainer(data, SMALL, "run").network.item_table.detach().numpy()[:, :8]
    factors = data.factors.items
    warm = data.warm
    cosine = (table[warm] * factors[warm]).sum(1) / np.linalg.norm(table[warm], axis=1)
    assert np.allclose(cosine / np.linalg.norm(factors[warm], axis=1), 1, atol=1e-4)


def test_items_without_interactions_have_no_collaborative_part(data, tmp_path):
    cold = 7
    log = data.log.select(data.log.item != cold)
    cases = Cases(log, data.cases.users, data.cases.targets, data.cases.candidates)
    without = TrainingData(log, cases, data.features, fit(log, CFSettings(factors=8, iterations=3)))
    network, _ = train(without, SMALL.model_copy(update={"epochs": 1}), tmp_path / "a", "run")
    from molar_retrieval.alignment.encode import item_sides

    collaborative, content = item_sides(network, without.warm)
    assert not collaborative[cold].any()
    assert content[cold].any()
    assert np.allclose(collaborative[without.warm].mean(0), 0, atol=1e-6)
