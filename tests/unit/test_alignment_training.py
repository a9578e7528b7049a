"""Training learns, reruns bit for bit, and continues after a kill as if nothing had happened."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from molar_retrieval.data.interactions import Interactions, holdout_last
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.ids import IdMap
from molar_retrieval.models import content_features
from molar_retrieval.models.als import fit
from molar_retrieval.models.blending import Dense, Gain
from molar_retrieval.models.towers.network import History
from molar_retrieval.models.towers.training import EpochScore, TowerTrainer, TrainingData, train, validate
from molar_retrieval.models.validation import ValidationCases, ndcg, ranks, withheld_items
from molar_retrieval.models.vectors import encode_users, item_sides
from molar_retrieval.workspace.settings import COUNT_MODELS, AlignSettings, ALSSettings

N_ITEMS = 60
SMALL = AlignSettings(
    embedding_dim=16, content_dim=16, n_blocks=1, n_content_blocks=1, max_history=12, epochs=3, batch_tokens=256,
    n_negatives=40, threads=1, precision="float32", device="cpu", learning_rate=5e-3, dropout=0.1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def walk_log(users=150, seed=0):
    """Everybody walks through the items in steps of +1 or +2: what comes next is easy to learn from the order."""
    random = np.random.default_rng(seed)
    histories = [(random.integers(N_ITEMS) + np.cumsum(random.integers(1, 3, 10))) % N_ITEMS for _ in range(users)]
    return Interactions(
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
    features = content_features.fit(circle, [VectorBlock("content", 0, 4)], 4)(circle)
    factors = fit(split.training, ALSSettings(factors=8, iterations=3))
    return TrainingData(split.training, ValidationCases.of(split), features, factors)


def changed(**values):
    return SMALL.model_copy(update=values)


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def without_time(state):
    return [(e.epoch, e.loss, e.ndcg, e.recall, e.towers) for e in state.scores]


def test_both_towers_learn_the_walk(data, tmp_path):
    network, state = train(data, changed(epochs=8), tmp_path, "run")
    final = {name: ndcg(rank) for name, rank in validate(network, data, "float32").items()}
    chance = np.mean([1 / np.log2(1 + r) if r <= 10 else 0 for r in range(1, N_ITEMS + 1)])
    assert final["id_tower"] > 3 * chance
    assert final["content_tower"] > 2 * chance
    assert final["towers"] >= max(final["id_tower"], final["content_tower"])
    assert state.scores[-1].loss < state.scores[0].loss
    assert state.best.ndcg == max(e.ndcg for e in state.scores) == final["towers"], "the weights are the best epoch's"
    assert state.best.towers == {name: final[name] for name in ("id_tower", "content_tower")}


@pytest.mark.parametrize("helpful", [True, False])
def test_an_epoch_is_worth_its_best_sum(data, monkeypatch, helpful):
    """A content tower that knows nothing, or knows better, at any of the weights that are tried."""
    random = np.random.default_rng(0)
    count = len(data.cases)
    known = {name: random.normal(size=(count, N_ITEMS)).astype(np.float32) for name in ("id_tower", "content_tower")}
    for name, signal in (("id_tower", 2.0), ("content_tower", 2.0 if helpful else -9.0)):
        known[name][np.arange(count), data.cases.targets] += signal
    parts = {name: Dense(table, np.eye(N_ITEMS, dtype=np.float32)) for name, table in known.items()}
    monkeypatch.setattr("molar_retrieval.models.towers.training.tower_parts", lambda *_: parts)
    found = {name: ndcg(rank) for name, rank in validate(None, data, "float32").items()}
    if helpful:
        assert found["towers"] > 1.05 * max(found["id_tower"], found["content_tower"])
    else:
        assert found["towers"] == found["id_tower"]


def test_the_content_tower_is_not_asked_about_what_is_withheld(data):
    """Neither as what came next nor among what did not; a table, which knows nothing of other items, is."""
    torch.manual_seed(0)
    trainer = TowerTrainer(data, changed(n_negatives=10 * N_ITEMS), "run")
    withheld = withheld_items(data.warm, 0)
    assert 0 < withheld.sum() < N_ITEMS
    rows = torch.arange(N_ITEMS)
    history = History(rows[None, :], torch.zeros(1, N_ITEMS, N_ITEMS, dtype=torch.int64), torch.tensor([N_ITEMS]))
    counts = torch.from_numpy(data.warm)
    trainer.network.eval()
    for tower in trainer.network.towers.values():
        tower.forward = lambda vectors, gaps: states[None, :, : vectors.shape[-1]]  # whatever was read
    states = torch.randn(N_ITEMS, 64)

    def losses():
        random = np.random.default_rng(0)
        return {
            name: trainer._next_item(name, history, rows, counts, random)[0].item()
            for name in ("id_tower", "content_tower")
        }

    before = losses()
    open_rows = rows[torch.from_numpy(data.warm & ~withheld)]
    full = torch.nn.functional.cross_entropy(
        states[open_rows, : trainer.network.shapes["content_tower"].dim]
        @ trainer.network.items["content_tower"](open_rows).T,
        torch.arange(len(open_rows)),
    )
    assert before["content_tower"] == pytest.approx(full.item(), rel=1e-4)
    with torch.no_grad():
        trainer.network.items["content_tower"].features[torch.from_numpy(withheld)] = 50.0
        trainer.network.items["id_tower"].weight[torch.from_numpy(withheld)] = 50.0
    after = losses()
    assert after["content_tower"] == before["content_tower"]
    assert after["id_tower"] != pytest.approx(before["id_tower"], rel=0.1)


def test_a_step_in_which_everything_is_withheld_is_no_trouble(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "molar_retrieval.models.towers.training.withheld_items", lambda warm, seed: np.ones(len(warm), bool)
    )
    network, state = train(data, changed(models=("content_tower",), alignment_weight=0.0, epochs=1), tmp_path, "run")
    assert state.scores[0].loss == 0
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize("tower", ["id_tower", "content_tower"])
def test_one_tower_alone_is_trained_and_judged_by_itself(data, tmp_path, tower):
    network, state = train(data, changed(models=(tower,), epochs=4, alignment_weight=0.3), tmp_path, "run")
    assert list(network.shapes) == [tower]
    found = validate(network, data, "float32")
    assert found["towers"].tolist() == found[tower].tolist()
    assert state.best.towers == {tower: state.best.ndcg}
    chance = np.mean([1 / np.log2(1 + r) if r <= 10 else 0 for r in range(1, N_ITEMS + 1)])
    assert state.best.ndcg > 1.5 * chance


def test_members_of_an_ensemble_learn_for_themselves_and_find_more_together(data, tmp_path):
    settings = changed(models=("id_tower",), members=3, epochs=6)
    start = TowerTrainer(data, settings, "run").network
    tables = start.items["id_tower"].weight.chunk(3, -1)
    assert all(torch.equal(table[:, :8], tables[0][:, :8]) for table in tables), "all start from ALS"
    network, state = train(data, settings, tmp_path, "run")
    cases = np.arange(len(data.cases))
    users = encode_users(network, data.cases.histories(), cases, precision="float32")["id_tower"]
    items = item_sides(network, data.warm)["id_tower"]
    alone = [
        ndcg(ranks(data.cases, Dense(*own).scores))
        for own in zip(np.split(users, 3, 1), np.split(items, 3, 1), strict=True)
    ]
    assert len(set(alone)) == 3
    assert state.best.ndcg > np.mean(alone)


def test_the_loss_of_an_ensemble_is_the_sum_of_its_members(data):
    trainer = TowerTrainer(data, changed(models=("id_tower",), members=2, dropout=0.0), "run")
    rows = torch.arange(12)
    gaps = torch.zeros(1, 12, 12, dtype=torch.int64)
    history = History(rows[None, :], gaps, torch.tensor([12]))

    def loss():
        everything = torch.ones(12, dtype=torch.bool)
        return trainer._next_item("id_tower", history, rows + 1, everything, np.random.default_rng(0))[0].item()

    def alone(number):
        one = TowerTrainer(data, changed(models=("id_tower",), dropout=0.0), "run")
        one.network.towers["id_tower"] = trainer.network.towers["id_tower"].members[number]
        own = trainer.network.items["id_tower"].weight.chunk(2, -1)[number]
        with torch.no_grad():
            one.network.items["id_tower"].weight.copy_(own)
        everything = torch.ones(12, dtype=torch.bool)
        return one._next_item("id_tower", history, rows + 1, everything, np.random.default_rng(0))[0].item()

    assert loss() == pytest.approx(alone(0) + alone(1), rel=1e-5)


def test_without_towers_nothing_is_trained_or_written(data, tmp_path):
    network, state = train(data, changed(models=COUNT_MODELS), tmp_path, "run")
    assert state.scores == []
    assert state.best is None
    assert not list(network.parameters())
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_training_stops_when_the_score_stays_down(data, tmp_path, monkeypatch):
    course = iter([0.1, 0.3, 0.2, 0.3, 0.29, 0.5])
    round_ = TowerTrainer.round

    def scored(self, progress):
        round_(self, progress)
        self.state.scores[-1] = EpochScore(len(self.state.scores), 1.0, next(course), 0.0, {}, 0.0)
        kept.append(weights(self.network))
        return self.state.scores[-1]

    kept = []
    monkeypatch.setattr(TowerTrainer, "round", scored)
    network, state = train(data, changed(epochs=10, patience=2), tmp_path, "run")
    assert [e.ndcg for e in state.scores] == [0.1, 0.3, 0.2, 0.3], "an equal score is no better"
    assert state.best.epoch == 2
    assert equal(weights(network), kept[1])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(data, tmp_path):
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        network, state = train(data, changed(seed=seed), tmp_path / name, "run")
        runs.append((weights(network), without_time(state)))
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
    network, state = train(data, SMALL, tmp_path / "a", "run")

    def kill(self, progress):
        if len(self.state.scores) == after:
            raise Killed
        return round_(self, progress)

    round_ = TowerTrainer.round
    monkeypatch.setattr(TowerTrainer, "round", kill)
    with pytest.raises(Killed):
        train(data, SMALL, tmp_path / "b", "run")
    monkeypatch.undo()
    told = []
    continued, other = train(data, SMALL, tmp_path / "b", "run", on_epoch=told.append)
    assert equal(weights(network), weights(continued))
    assert without_time(state) == without_time(other)
    assert [score.epoch for score in told] == [1, 2, 3], "the curve is shown from its beginning"


@pytest.mark.parametrize("after", [2, 3])
def test_a_tower_that_the_probe_names_is_trained_no_more(data, tmp_path, monkeypatch, after):
    """The other one is trained to the end, also by a process that goes on after a kill, which does not ask again."""
    settings, asked = changed(epochs=4), []

    def probe(towers):
        asked.append(sorted(towers))
        return {"content_tower": Gain(0.001, 0.002)}

    network, state = train(data, settings, tmp_path / "a", "run", probe=probe)
    assert asked == [["content_tower", "id_tower"]]
    assert [sorted(score.towers) for score in state.scores] == 2 * [["content_tower", "id_tower"]] + 2 * [["id_tower"]]
    assert [score.pruned for score in state.scores] == [{}, {"content_tower": {"value": 0.001, "error": 0.002}}, {}, {}]
    assert list(network.shapes) == ["id_tower"]
    assert not [name for name in network.state_dict() if "content_tower" in name or "factors" in name]
    assert ndcg(validate(network, data, "float32")["id_tower"]) == state.best.ndcg

    round_ = TowerTrainer.round

    def kill(self, progress):
        if len(self.state.scores) == after:
            raise Killed
        return round_(self, progress)

    monkeypatch.setattr(TowerTrainer, "round", kill)
    with pytest.raises(Killed):
        train(data, settings, tmp_path / "b", "run", probe=probe)
    monkeypatch.undo()
    continued, other = train(data, settings, tmp_path / "b", "run", probe=probe)
    assert len(asked) == 2
    assert equal(weights(network), weights(continued))
    assert without_time(state) == without_time(other)


def test_where_training_ends_with_the_probe_the_tower_goes_too(data, tmp_path):
    probe = {"content_tower": Gain(0.0, 0.0)}
    network, _ = train(data, changed(epochs=2), tmp_path / "a", "run", probe=lambda _: probe)
    assert list(network.shapes) == list(network.towers) == ["id_tower"]


def test_a_checkpoint_of_another_run_is_not_continued(data, tmp_path):
    one = changed(epochs=1)
    train(data, one, tmp_path / "a", "run")
    told = []
    TowerTrainer(data, one, "other run").train(tmp_path / "a", on_score=told.append)
    assert len(told) == 1, "trained anew"


def test_the_process_keeps_its_own_random_state(data, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(data, changed(epochs=1), tmp_path / "a", "run")
    assert torch.equal(torch.rand(3), expected)


def test_the_item_table_starts_from_the_factors(data):
    table = TowerTrainer(data, SMALL, "run").network.items["id_tower"].weight.detach().numpy()[:, :8]
    factors = data.factors.items
    warm = data.warm
    cosine = (table[warm] * factors[warm]).sum(1) / np.linalg.norm(table[warm], axis=1)
    assert np.allclose(cosine / np.linalg.norm(factors[warm], axis=1), 1, atol=1e-4)


def test_a_narrow_item_table_keeps_the_principal_part_of_the_factors(data):
    wide = fit(data.log, ALSSettings(factors=24, iterations=3))
    narrow = TrainingData(data.log, data.cases, data.features, wide)
    start = TowerTrainer(narrow, changed(embedding_dim=16), "run").network.items["id_tower"].weight
    table = start.detach().numpy()[:, :8]
    _, values, axes = np.linalg.svd(wide.items[data.warm], full_matrices=False)
    expected = wide.items[data.warm] @ axes[:8].T
    got, want = table[data.warm] @ table[data.warm].T, expected @ expected.T
    np.testing.assert_allclose(got / np.linalg.norm(got), want / np.linalg.norm(want), atol=1e-5)
    assert np.sqrt((table[data.warm] ** 2).mean()) == pytest.approx(0.1, rel=1e-4)
    assert values[7] > 0


def test_items_without_interactions_keep_a_random_start(data):
    cold = 7
    log = data.log.select(data.log.item != cold)
    factors = fit(log, ALSSettings(factors=8, iterations=3))
    without = TrainingData(log, data.cases, data.features, factors)
    table, plain = (
        TowerTrainer(some, SMALL, "run").network.items["id_tower"].weight[:, :8]
        for some in (without, replace(without, factors=replace(factors, items=np.zeros_like(factors.items))))
    )
    assert torch.equal(table[cold], plain[cold])
    assert not torch.equal(table[cold + 1], plain[cold + 1])


def test_half_of_the_item_table_starts_from_content(data):
    """Of all items: those that nobody took have content as well. The dim is 16, the features have 4 numbers."""
    table = TowerTrainer(data, SMALL, "run").network.items["id_tower"].weight
    features = torch.from_numpy(data.features)
    assert torch.allclose(table[:, 8:12], features * (0.1 / features.square().mean().sqrt()))
    others = replace(data, features=np.ones_like(data.features))
    assert torch.equal(table[:, 12:], TowerTrainer(others, SMALL, "run").network.items["id_tower"].weight[:, 12:])


def test_users_are_encoded_each_alone_as_in_a_batch(data, monkeypatch):
    network = TowerTrainer(data, SMALL, "run").network
    random = np.random.default_rng(0)
    items = [random.integers(0, N_ITEMS, length) for length in (3, 0, 20, 1, 12, 13)]
    log = Interactions(
        IdMap([str(n) for n in range(6)]),
        IdMap([f"i{n}" for n in range(N_ITEMS)]),
        np.concatenate([[0], np.cumsum([len(h) for h in items])]).astype(np.int64),
        np.concatenate(items).astype(np.int32),
        np.arange(49, dtype=np.int64) * 5000,
    )
    rows = np.array([4, 2, 1, 2, 0, 5, 3])
    together = encode_users(network, log, rows, precision="float32")
    monkeypatch.setattr("molar_retrieval.models.vectors._TOKENS", 1)
    for name, shape in (("id_tower", (7, 16)), ("content_tower", (7, 16))):
        assert together[name].shape == shape
        alone = [encode_users(network, log, np.array([row]), precision="float32")[name][0] for row in rows]
        np.testing.assert_allclose(together[name], alone, atol=1e-5)
        assert not together[name][2].any(), "nothing is known of somebody without a history"
        assert np.array_equal(together[name][1], together[name][3])
    latest = log.select(np.arange(49) >= 3 + 20 - 12)  # the last 12 of the third history, and what follows it
    np.testing.assert_allclose(
        encode_users(network, latest, np.array([2]), precision="float32")["content_tower"][0],
        together["content_tower"][1],
        atol=1e-5,
    )
    assert network.training, "it is put back"
