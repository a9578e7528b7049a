"""SASRec: its loss against PyTorch's, its causality, its training, and that a killed run goes on as if it had not been.

All in one thread and float32, where a rerun is bit-equal.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from eval_model_tasks import COLD, N_ITEMS, leave_one_out, log_of, walks

from molar_eval.models import sasrec
from molar_eval.models.sasrec import (
    SASRec,
    SASRecEpoch,
    SASRecNetwork,
    SASRecSearch,
    SASRecSettings,
    SASRecTrainer,
    Vocabulary,
    climb,
    cross_entropy,
    encode,
    like_lengths,
)
from molar_retrieval.errors import DataError
from molar_retrieval.models.towers.trainer import TrainingState

SMALL = SASRecSettings(
    dim=16, history=6, batch=16, epochs=4, learning_rate=3e-3, device="cpu", precision="float32", negatives=10
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def task(tmp_path):
    return leave_one_out(walks(), tmp_path)[0]


def vectors(seed=0, targets=37, items=50):
    random = torch.Generator().manual_seed(seed)
    users = torch.randn(targets, 8, generator=random)
    table = torch.randn(items, 8, generator=random)
    return users.requires_grad_(), table.requires_grad_(), torch.randint(items, (targets,), generator=random)


@pytest.mark.parametrize("elements", [1, 50 * 16, 50 * 37, 1 << 20])
def test_cross_entropy_is_pytorchs_whatever_the_chunks(monkeypatch, elements):
    monkeypatch.setattr(sasrec, "_CHUNK_ELEMENTS", elements)
    users, table, targets = vectors()
    expected = F.cross_entropy(users @ table.T, targets, reduction="sum")
    wanted = torch.autograd.grad(expected * 0.3, (users, table))
    loss = cross_entropy(users, table, targets)
    got = torch.autograd.grad(loss * 0.3, (users, table))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_cross_entropy_in_bfloat16_is_near():
    users, table, targets = vectors(1)
    exact, near = cross_entropy(users, table, targets), cross_entropy(users, table, targets, torch.bfloat16)
    torch.testing.assert_close(near, exact, rtol=0.01, atol=0)
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(exact, (users, table))])
    got = torch.cat([g.flatten() for g in torch.autograd.grad(near, (users, table))])
    assert F.cosine_similarity(wanted, got, dim=0) > 0.999


def test_cross_entropy_of_huge_logits_is_finite():
    users, table, targets = vectors(2)
    users, table = users.detach() * 1e3, table.detach() * 1e3
    loss = cross_entropy(users.requires_grad_(), table.requires_grad_(), targets)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, (users, table)))


def network(history=6, dropout=0.0):
    torch.manual_seed(0)
    return SASRecNetwork(N_ITEMS, history, dim=16, blocks=2, heads=2, dropout=dropout).eval()


def test_no_place_sees_a_later_one():
    one, other = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[1, 2, 3, 9, 0]])
    first, second = network()(one), network()(other)
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3:], second[:, 3:])
    earlier = network()(torch.tensor([[7, 2, 3, 4, 5]]))
    assert (first - earlier).abs().amax(-1).min() > 0  # and each sees the first


def test_encoding_reads_the_last_items_whatever_the_batch():
    histories = [[1, 2], [], [3], [4, 5, 6, 7, 8, 9, 10, 11], [2, 1, 2, 1]]
    users = encode(network(), log_of(histories), 6, batch=2)
    for row, history in enumerate(histories):
        alone = network()(torch.tensor([history[-6:]]))[0, -1].detach().numpy() if history else np.zeros(16)
        np.testing.assert_allclose(users[row], alone, rtol=1e-5, atol=1e-6)


def test_batches_hold_each_window_once_and_like_lengths_together():
    lengths = np.random.default_rng(0).integers(1, 40, 101)
    batches = like_lengths(lengths, 8, np.random.default_rng(1))
    assert sorted(np.concatenate(batches).tolist()) == list(range(101))
    sums = [len(batch) * lengths[batch].max() for batch in batches]
    assert sum(sums) < 1.1 * lengths.sum()
    spans = sorted((lengths[batch].min(), lengths[batch].max()) for batch in batches)
    assert all(high <= low for (_, high), (low, _) in pairwise(spans))
    other = like_lengths(lengths, 8, np.random.default_rng(2))
    assert {tuple(sorted(batch)) for batch in batches} != {tuple(sorted(batch)) for batch in other}


def test_vocabulary_numbers_known_items_without_gaps():
    words = Vocabulary(log_of([[7, 3], [7, 20]]))
    log = words(log_of([[20, 5, 3], [1], [7]]))
    assert words.rows.tolist() == [3, 7, 20]
    assert [log.history(user).tolist() for user in range(3)] == [[2, 0], [], [1]]
    assert list(log.items.ids([0, 1, 2])) == ["i3", "i7", "i20"]


def test_the_loss_is_taken_over_each_target_once(task, monkeypatch):
    trainer = SASRecTrainer(Vocabulary(task.training)(task.training), SMALL, 0, "run", lambda _: 0.0)
    seen = []
    original = sasrec.cross_entropy
    monkeypatch.setattr(
        sasrec,
        "cross_entropy",
        lambda users, items, targets, precision: seen.append(targets) or original(users, items, targets, precision),
    )
    trainer.round()
    # Five training interactions each: the first is no target, and a window of six places holds all.
    wanted = np.sort(np.concatenate([trainer.log.history(user)[1:] for user in range(80)]))
    assert np.array_equal(np.sort(torch.cat(seen).numpy()), wanted)
    assert trainer.state.scores[0].loss == pytest.approx(np.log(28), rel=0.05)


def test_learns_the_walk(task):
    more = SMALL.model_copy(update={"epochs": 25, "patience": 25, "learning_rate": 1e-2})
    fitted = SASRec([more]).fit(task, 0)
    facts = fitted.facts
    assert facts["epochs"][-1]["loss"] < facts["epochs"][0]["loss"] / 2
    assert facts["tried"][0]["ndcg@10"] > 0.6  # one of two items, and 0.815 where they cannot be told apart
    assert facts["best_epoch"] == 1 + int(np.argmax([epoch["ndcg"] for epoch in facts["epochs"]]))
    assert facts["fit_seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in facts["epochs"]))


class _Quiet:
    def start(self, task, total): ...
    def advance(self, n=1): ...
    def note(self, message): ...
    def finish(self): ...


class _Power(_Quiet):
    """Cuts the power within an epoch."""

    def __init__(self, epoch, batch):
        self.epoch, self.batch, self.now, self.count = epoch, batch, "", 0

    def start(self, task, total):
        self.now, self.count = task, 0

    def advance(self, n=1):
        self.count += 1
        if self.now == f"SASRec epoch {self.epoch}" and self.count == self.batch:
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_as_if_nothing_had_happened(task, tmp_path):
    inputs = task.validation.inputs()
    whole = SASRec([SMALL]).fit(replace(task, folder=tmp_path / "whole"), 1)
    broken = replace(task, folder=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        SASRec([SMALL]).fit(broken, 1, _Power(3, 2))
    heard = _Power(9, 9)
    resumed = SASRec([SMALL]).fit(broken, 1, heard)
    assert heard.now == "SASRec epoch 4"
    assert np.array_equal(resumed.scores(inputs), whole.scores(inputs))
    assert [e["loss"] for e in resumed.facts["epochs"]] == [e["loss"] for e in whole.facts["epochs"]]
    finished = _Power(1, 1)
    assert np.array_equal(SASRec([SMALL]).fit(broken, 1, finished).scores(inputs), whole.scores(inputs))
    assert finished.now == ""  # nothing was trained again


def test_other_data_settings_and_seeds_do_not_share_a_checkpoint(task):
    SASRec([SMALL]).fit(task, 1)
    SASRec([SMALL]).fit(task, 2)
    SASRec([SMALL.model_copy(update={"dropout": 0.3})]).fit(task, 1)
    SASRec([SMALL]).fit(leave_one_out(walks(seed=5), task.folder)[0], 1)
    assert len(list(task.folder.glob("sasrec-*/checkpoint.safetensors"))) == 4


def test_stops_when_validation_stops_rising_and_keeps_the_best_weights(task):
    settings = SMALL.model_copy(update={"epochs": 50, "patience": 3})
    scores, weights = iter([0.1, 0.3, 0.2, 0.3, 0.1, 0.9]), []

    def validate(network):
        assert not network.training
        weights.append(network.items.weight.detach().clone())
        return next(scores)

    trainer = SASRecTrainer(Vocabulary(task.training)(task.training), settings, 0, "run", validate)
    best = trainer.train(task.folder)
    assert [epoch.ndcg for epoch in trainer.state.scores] == [0.1, 0.3, 0.2, 0.3, 0.1]
    assert best == trainer.state.best == trainer.state.scores[1]
    assert torch.equal(trainer.network.items.weight, weights[1])


def test_the_state_starts_without_a_best():
    assert TrainingState("run").best is None
    only = SASRecEpoch(1.0, 0.0, 1.0)
    assert TrainingState("run", scores=[only]).best is only


def test_validation_chooses_between_settings(task):
    blind = SMALL.model_copy(update={"learning_rate": 1e-9})
    fitted = SASRec([blind, SMALL]).fit(task, 0)
    assert fitted.facts["chosen"]["learning_rate"] == SMALL.learning_rate
    assert len(fitted.facts["epochs"]) == 4
    alone = SASRec([SMALL]).fit(task, 0)
    inputs = task.validation.inputs()
    assert np.array_equal(fitted.scores(inputs), alone.scores(inputs))


def test_samples_the_softmax_of_a_large_catalogue(task, monkeypatch):
    full = SASRec([SMALL]).fit(task, 0).facts["epochs"]
    monkeypatch.setattr(sasrec, "FULL_SOFTMAX_ITEMS", 20)
    log = Vocabulary(task.training)(task.training)
    sampled = SASRecTrainer(log, SMALL, 0, "sampled", lambda _: 0.0)
    sampled.train(task.folder / "sampled")
    assert sampled.state.scores[0].loss == pytest.approx(full[0]["loss"], rel=0.05)
    # A sample of all items is no sample.
    everything = SMALL.model_copy(update={"negatives": log.n_items, "epochs": 1})
    whole = SASRecTrainer(log, everything, 0, "everything", lambda _: 0.0)
    whole.train(task.folder / "everything")
    assert whole.state.scores[0].loss == pytest.approx(full[0]["loss"], rel=1e-4)


def test_the_global_random_state_is_left_alone(task):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    SASRec([SMALL.model_copy(update={"epochs": 1})]).fit(task, 0)
    assert torch.equal(torch.rand(3), expected)


def test_histories_without_order_are_refused(task):
    single = replace(task, training=log_of([[1], [2]]))
    with pytest.raises(DataError, match="two training interactions"):
        SASRec([SMALL]).fit(single, 0)


def test_cold_items_are_left_out(task):
    fitted = SASRec([SMALL]).fit(task, 0)
    scores = fitted.scores(log_of([[3, COLD[0], 4], [3, 4], [COLD[1]], []]))
    assert np.isneginf(scores[:, COLD]).all()
    np.testing.assert_allclose(scores[0, :28], scores[1, :28], rtol=1e-5)
    assert (scores[2:, :28] == 0).all()


def test_a_climb_goes_on_while_it_rises_and_judges_nothing_twice():
    judged = []

    def judge(setting):
        judged.append(tuple(setting.values()))
        return -2 * (setting["a"] - 3) ** 2 - (setting["b"] - setting["a"]) ** 2

    found = climb({"a": 1, "b": 1}, {"a": (0, 1, 2, 3, 4), "b": (1, 2, 3)}, judge)
    assert found == {"a": 3, "b": 3}, "b follows a, and a goes on after b has"
    assert len(judged) == len(set(judged)) < 15


def test_the_search_of_the_first_seed_chooses_for_all_and_says_where_its_ladders_end(task, monkeypatch):
    model = SASRecSearch(SMALL.model_copy(update={"epochs": 2}), {"dim": (8, 16)})
    first, trained = model.fit(task, 0), []
    monkeypatch.setattr(SASRecTrainer, "_round", lambda self, progress: trained.append(1))
    assert model.fit(task, 0).facts == first.facts, "what a killed run trained is not trained again"
    monkeypatch.undo()
    other = model.fit(task, 1).facts
    assert not trained
    assert [row["setting"]["dim"] for row in first.facts["tried"]] == [16, 8]
    best = max(first.facts["tried"], key=lambda row: row["ndcg@10"])["setting"]["dim"]
    assert first.facts["chosen"]["dim"] == other["chosen"]["dim"] == best
    assert first.facts["edge_of_grid"] == {"dim": "largest" if best == 16 else "smallest"}
    assert other["epochs"] != first.facts["epochs"]
