"""Room for newcomers: as much as validation bears, or as much as was set; ranks are those of a query."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from eval_model_tasks import log_of

from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.models import cold_start, content_features, content_knn, validation
from molar_retrieval.models.als import fit
from molar_retrieval.models.base import count_models as count
from molar_retrieval.models.base import taught_by
from molar_retrieval.models.blending import blend
from molar_retrieval.models.cold_start import RidgeSums, choose_slots, content_pairs, model_ranks, with_cold_start
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.popularity import DAY
from molar_retrieval.models.towers.training import TrainingData, build_network, tower_parts
from molar_retrieval.models.validation import ValidationCases, ndcg, taken, withheld_items
from molar_retrieval.models.vectors import item_sides
from molar_retrieval.ranking.candidates import merge
from molar_retrieval.ranking.objectives import last
from molar_retrieval.workspace.settings import COUNT_MODELS, AlignSettings, ALSSettings

N = 60
SETTINGS = AlignSettings(
    embedding_dim=8,
    content_dim=8,
    n_blocks=1,
    n_content_blocks=1,
    max_history=8,
    batch_tokens=256,
    precision="float32",
    device="cpu",
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def world(seed, new_share, cold_targets, telling=True):
    """People stay within one of six kinds of items; content tells the kind, or nothing; some items are not out yet.

    Args:
        seed: Of all of it.
        new_share: Of the items that nobody took.
        cold_targets: Share of the cases whose target is one of those.
        telling: Whether content tells the kind.
    """
    random = np.random.default_rng(seed)
    kind = np.arange(N) % 6
    new = np.isin(np.arange(N), random.choice(N, round(N * new_share), replace=False))
    histories, targets = [], []
    for user in range(150):
        mine = np.flatnonzero((kind == user % 6) & ~new)
        histories.append(random.choice(mine, min(len(mine), 5), replace=False).tolist())
        rest = np.setdiff1d(np.flatnonzero(kind == user % 6), histories[-1])
        cold = rest[new[rest]]
        wanted = cold if len(cold) and random.random() < cold_targets else rest[~new[rest]]
        targets.append(random.choice(wanted if len(wanted) else np.flatnonzero(new)))
    log = log_of(histories, N, np.concatenate([DAY * np.arange(len(h)) for h in histories]))
    content = np.eye(6)[kind] + 0.3 * random.normal(size=(N, 6)) if telling else random.normal(size=(N, 6))
    content = content.astype(np.float32)
    conditioner = content_features.fit(content, [VectorBlock("content", 0, 6)], 6)
    cases = ValidationCases(log, np.arange(150), np.array(targets), np.ones(N, bool), DAY * (2 + np.arange(150) % 7))
    factors = fit(log, ALSSettings(factors=6, iterations=3))
    return TrainingData(log, cases, conditioner(content), factors), conditioner


def shipped(data, conditioner, settings=SETTINGS):
    torch.manual_seed(0)
    network = build_network(data, settings).eval()
    counts = count(data.log, data.cases, data.features, settings)
    parts = {**tower_parts(network, data, "float32"), **counts.parts(data.cases)}
    fusion = blend(data.cases, parts)
    bare = Ensemble(
        network=network,
        conditioner=conditioner,
        features=data.features,
        known=data.warm,
        item_item=counts.item_item,
        content_knn=counts.content_knn,
        half_life=counts.popularity.half_life if counts.popularity else None,
        weights=fusion.weights,
        cold_start_weights={},
        predictors={},
        slots=last(0),
        precision="float32",
        popularity=counts.popularity,
    )
    model, ranks, used = with_cold_start(bare, data, settings, fusion)
    assert ranks.tolist() == model_ranks(model, data.cases).tolist()
    assert model.weights == used.weights
    return model, used


@pytest.mark.parametrize("new_share", [0.0, 0.1, 0.35])
@pytest.mark.parametrize("cold_targets", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("telling", [True, False])
def test_newcomers_get_as_much_room_as_leaves_the_best_part_behind(new_share, cold_targets, telling):
    data, conditioner = world(1, new_share, cold_targets, telling)
    model, fusion = shipped(data, conditioner)
    floor = max(map(ndcg, fusion.alone.values()))
    scores = [ndcg(model_ranks(replace(model, slots=last(n)), data.cases)) for n in range(4)]
    fair_share = min(3, round(10 * np.mean(~data.warm)))
    bearable = [n for n in range(fair_share + 1) if scores[n] >= floor]
    assert len(model.slots) == (max(bearable) if bearable else int(np.argmax(scores[: fair_share + 1])))
    if cold_targets == 0:
        assert ndcg(model_ranks(model, data.cases)) >= floor
    if not new_share:
        assert model.slots == ()
        assert model_ranks(model, data.cases).tolist() == pytest.approx(fusion.ranks.tolist(), abs=1)


def test_where_people_take_what_is_new_they_are_shown_it():
    data, conditioner = world(2, 0.35, 0.8)
    model, _ = shipped(data, conditioner)
    assert len(model.slots) == 3
    scores = [ndcg(model_ranks(replace(model, slots=last(n)), data.cases)) for n in (0, 3)]
    assert scores[1] > 2 * scores[0]


def test_where_nobody_took_two_things_nothing_is_learned_of_newcomers_and_they_get_no_room():
    data, conditioner = world(2, 0.35, 1.0)
    firsts = np.zeros(len(data.log), bool)
    firsts[data.log.offsets[:-1]] = True
    log = data.log.select(firsts)
    data = replace(data, log=log, cases=replace(data.cases, log=log), factors=fit(log, ALSSettings(factors=6)))
    model, _ = shipped(data, conditioner)
    assert not any(model.cold_start_weights.values())
    assert model.slots == ()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 1), (0.3, 3), (0.46, 5), (0.9, 9)])
def test_a_number_is_obeyed(share, count):
    for cold_targets in (0.0, 1.0):
        data, conditioner = world(1, 0.1, cold_targets)
        model, _ = shipped(data, conditioner, SETTINGS.model_copy(update={"cold_start_share": share}))
        assert len(model.slots) == count


@pytest.mark.parametrize("told_by", ["validation", "training"])
def test_telling_content_gets_weight_and_guesses_are_of_the_right_kind(monkeypatch, told_by):
    if told_by == "validation":  # with as many items among them as a real catalogue's tenth has
        monkeypatch.setattr(cold_start, "_ENOUGH", 1)
        monkeypatch.setattr(validation, "WITHHELD", 0.3)
    data, conditioner = world(3, 0.3, 0.3)
    model, _ = shipped(data, conditioner, SETTINGS.model_copy(update={"models": ("id_tower", *COUNT_MODELS)}))
    assert model.cold_start_weights["content_knn"] > 0 or model.cold_start_weights["id_tower"] > 0
    assert set(model.predictors) - {"content_knn"} == {"popularity", "id_tower"}
    new = np.flatnonzero(~data.warm)
    scores = model.scores(data.cases.log)[:, new]
    best = new[scores.argmax(1)] % 6
    assert np.mean(best == np.arange(150) % 6) > 0.7


@pytest.mark.parametrize("enough", [1, 10_000])
@pytest.mark.parametrize("towers", [("id_tower",), ("id_tower", "content_tower")])
def test_weights_are_learned_from_items_as_if_nobody_had_taken_them(monkeypatch, towers, enough):
    data, conditioner = world(3, 0.3, 0.3)
    told = []

    def weigh(cases, parts, seed):
        told.append((cases, parts))
        return SimpleNamespace(weights=dict.fromkeys(parts, 1.0) | {"pairs": 0.0}, ranks=np.zeros(0, np.int64))

    monkeypatch.setattr(cold_start, "blend", weigh)
    monkeypatch.setattr(cold_start, "_ENOUGH", enough)
    monkeypatch.setattr(content_knn, "_FEWEST_TAUGHT", 3)
    teachers = []

    def taught(neighbours, features, log, least):
        """As if validation had chosen content that people teach."""
        teachers.append(log)
        return taught_by(replace(neighbours, axes=np.eye(features.shape[1])), features, log, least)

    monkeypatch.setattr(cold_start, "taught_by", taught)
    model, _ = shipped(data, conditioner, SETTINGS.model_copy(update={"models": (*towers, *COUNT_MODELS)}))
    ((cases, parts),) = told
    withheld = withheld_items(data.warm, 0)
    counts = np.bincount(data.log.item, minlength=N)
    if enough == 1:  # validation cases tell
        assert set(parts) == {*towers, "content_knn", "pairs", "popularity"}
        assert len(cases) == withheld[data.cases.targets].sum()
    else:  # training interactions do, and the tower that was trained on them is not asked
        assert set(parts) == {*towers, "content_knn", "pairs", "popularity"} - {"id_tower"}
        assert len(cases) == len(taken(data.log, withheld, 0))
    assert set(model.cold_start_weights) == {*towers, "content_knn", "popularity"}
    assert set(model.predictors) == {"id_tower", "popularity"}
    rest = data.warm & ~withheld
    sides = {**item_sides(model.network, data.warm), "popularity": np.log1p(counts)[:, None]}
    for name in {*model.predictors} & {*parts}:
        moments = RidgeSums.of(data.features, sides[name], counts, np.flatnonzero(rest))
        guesses = [moments.ridge(strength)(data.features[withheld]) for strength in (1.0, 10.0, 100.0)]
        assert any(np.allclose(parts[name].items, guess, atol=1e-4) for guess in guesses)
    others = data.log.select(rest[data.log.item])
    assert [log.item.tolist() for log in teachers] == [others.item.tolist()], "who plays a newcomer teaches nothing"
    neighbours = taught_by(replace(model.content_knn, axes=np.eye(6)), data.features, others)
    assert not np.allclose(neighbours.items, model.content_knn.items, atol=1e-3)
    assert np.array_equal(parts["content_knn"].items, neighbours.items[withheld])
    pairs = content_pairs(others, neighbours, SETTINGS.seed)
    assert np.array_equal(parts["pairs"].items, parts["content_knn"].items @ pairs.T)


def test_a_tower_that_cannot_be_weighed_gets_a_fixed_share(monkeypatch):
    data, conditioner = world(3, 0.3, 0.3)

    def weigh(_, parts, __):
        return SimpleNamespace(weights=dict.fromkeys(parts, 2.0), ranks=np.zeros(0, np.int64))

    monkeypatch.setattr(cold_start, "blend", weigh)
    monkeypatch.setattr(cold_start, "content_pairs", lambda *_: None)
    model, _ = shipped(data, conditioner, SETTINGS)
    withheld, counts = withheld_items(data.warm, 0), np.bincount(data.log.item, minlength=N)
    cases = taken(data.log, withheld, 0)
    users = model.users_by_part(cases.histories(), np.arange(len(cases)))
    sides = {**item_sides(model.network, data.warm), "popularity": np.log1p(counts)[:, None]}
    blocks = {"content_tower": sides["content_tower"][withheld], "content_knn": model.content_knn.items[withheld]}
    for name in ("popularity", "id_tower"):
        blocks[name] = cold_start.guessed(data.features, sides[name], counts, data.warm, withheld)[0]
    scores = {name: model.cold_start_weights[name] * users[name] @ block.T for name, block in blocks.items()}
    others = sum(one for name, one in scores.items() if name != "id_tower")
    assert scores["id_tower"].std(1).mean() == pytest.approx(0.5 * others.std(1).mean(), rel=0.1)


@pytest.mark.parametrize("own", [0.5, 0.0])
def test_content_as_it_is_and_by_pairs_are_one_block_with_a_weight_each(monkeypatch, own):
    data, conditioner = world(3, 0.3, 0.3)
    weights = {"content_knn": own, "pairs": 3.0, "popularity": 0.0}
    monkeypatch.setattr(cold_start, "blend", lambda *_: SimpleNamespace(weights=weights, ranks=np.zeros(0, np.int64)))
    model, _ = shipped(data, conditioner, SETTINGS.model_copy(update={"models": COUNT_MODELS}))
    new, content = ~data.warm, model.content_knn.items
    users = model.content_knn.users(data.log).astype(np.float64)
    pairs = content_pairs(data.log, model.content_knn, SETTINGS.seed)
    wanted = users @ (own * content[new] + 3 * content[new] @ pairs.T).T
    assert model.scores(data.log)[:, new] == pytest.approx(wanted, abs=1e-5)
    alone = model.guesses("content_knn", content, [new.argmax()])[0]
    assert model.guesses("content_knn", content, new)[0] == pytest.approx(alone, rel=1e-5)  # as a processor rounds


def test_guesses_need_no_interaction_of_the_newcomer_itself():
    """What a newcomer is thought to be is what its content is; its row of the table, which is random, is not read."""
    data, conditioner = world(3, 0.3, 0.3)
    model, _ = shipped(data, conditioner)
    before = model.items(data.log).dense
    with torch.no_grad():
        model.network.items["id_tower"].weight[torch.from_numpy(~data.warm)] = 1e3
    assert np.array_equal(model.items(data.log).dense, before)


@pytest.mark.parametrize("slots", [(), last(2), (3, 5, 10), last(9)])
def test_ranks_are_those_of_a_merged_list(slots):
    data, conditioner = world(4, 0.3, 0.5)
    model, _ = shipped(data, conditioner)
    model = replace(model, slots=slots, weights={**model.weights, "popularity": 1.0})
    asked = replace(data.cases.log.of_users(data.cases.users), asked_at=data.cases.times)
    scores = model.scores(asked).astype(np.float64)
    expected = []
    for row, (user, target) in enumerate(zip(data.cases.users, data.cases.targets, strict=True)):
        open_items = np.setdiff1d(np.arange(N), data.log.history(user))
        kinds = [sorted(open_items[data.warm[open_items] == k], key=lambda n: -scores[row, n]) for k in (True, False)]
        order, _ = merge(*([scores[row, n] for n in own] for own in kinds), slots)
        expected.append([[*kinds[0], *kinds[1]][n] for n in order].index(target) + 1)
    found = model_ranks(model, data.cases)
    assert np.mean(found == expected) > 0.97, "but for ties"
    assert (found >= expected).all()


def found(ranks, slots):
    """NDCG@10 of targets of one kind, by their ranks among their like and the places of these."""
    return sum(1 / np.log2(1 + slots[rank - 1]) for rank in ranks.tolist() if rank <= len(slots)) / len(ranks)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("steep", [0.05, 0.2, 0.6])
def test_places_further_up_are_those_at_which_newcomers_are_found_best_and_little_is_lost(count, steep):
    random = np.random.default_rng(count)
    known = random.geometric(steep, 6000) + 30 * (random.random(6000) < 0.9)
    cold = np.where(random.random(4000) < 0.05, random.geometric(0.3, 4000), 40)
    slots = choose_slots(known + count * (known > 10 - count), cold, count)
    assert (len(slots), slots[-1]) == (count, 10)

    def worth(slots):
        return found(known, [place for place in range(1, 11) if place not in slots]), found(cold, slots)

    most, _ = worth(last(count))
    every = [worth((*others, 10)) for others in combinations(range(2, 10), count - 1)]
    assert worth(slots)[0] >= 0.99 * most
    assert worth(slots)[1] == pytest.approx(max(new for left, new in every if left >= 0.99 * most))
    assert (slots > last(count)) is False
    assert (slots[0] < 5) is (steep == 0.6), "of lists whose first items are those that are taken, the rest is free"


def test_where_little_is_known_newcomers_come_last():
    known, cold = np.where(np.arange(600) < 20, 1, 40), np.ones(300, np.int64)
    assert choose_slots(known, cold, 3) == (2, 9, 10), "nothing is lost, and of the others none is found"
    assert choose_slots(known, cold[:299], 3) == last(3)
    assert choose_slots(known[:299], cold, 3) == last(3)
    assert choose_slots(known * 0 + 40, cold, 3) == last(3)
    assert choose_slots(known, cold, 1) == (10,)
    assert choose_slots(known, cold, 0) == ()


@pytest.mark.parametrize("towers", [(), ("id_tower",), ("content_tower",)])
def test_models_without_some_part_have_newcomers_too(towers, monkeypatch):
    monkeypatch.setattr(cold_start, "_ENOUGH", 1)
    data, conditioner = world(5, 0.3, 0.5)
    settings = SETTINGS.model_copy(update={"models": (*towers, "ease", "item_knn", "popularity")})
    model, _ = shipped(data, conditioner, settings)
    assert set(model.cold_start_weights) <= {"popularity", "id_tower", "content_tower"}
    assert ("id_tower" in model.predictors) == ("id_tower" in towers)
    assert len(model_ranks(model, data.cases)) == 150


def test_an_item_without_content_does_no_harm():
    data, conditioner = world(6, 0.3, 0.3)
    blind = replace(data, features=np.zeros_like(data.features))
    model, _ = shipped(blind, conditioner)
    items = model.items(blind.log).dense
    assert np.isfinite(items).all()
    assert np.abs(items[~data.warm]).max() < 1e3


def test_what_ships_is_checked_with_newcomers_in_their_places_and_other_weights_are_tried():
    data, conditioner = world(1, 0.35, 0.0)
    model, used = shipped(data, conditioner)
    worse = replace(used, weights=dict.fromkeys(used.weights, 0.0) | {"popularity": 1.0}, fallback=used)
    again, ranks, chosen = with_cold_start(model, data, SETTINGS, worse)
    assert chosen is used, "the trend alone is worse than the best part"
    assert again.weights == used.weights
    assert ranks.tolist() == model_ranks(model, data.cases).tolist()
    assert ndcg(ranks) >= max(map(ndcg, used.alone.values()))
