"""Shapes, causality, padding and the item sides of the post-alignment network."""

import numpy as np
import pytest
import torch

from molar_retrieval.models.towers.network import (
    ContentMap,
    Dropout,
    History,
    TowerShape,
    TwoTowerNetwork,
    _Lookup,
    time_gaps,
    tower_of,
    tower_shapes,
)
from molar_retrieval.models.vectors import item_sides
from molar_retrieval.workspace.settings import AlignSettings


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def network():
    shapes = {"id_tower": TowerShape(64, 2, 12, 0.3), "content_tower": TowerShape(24, 1, 12, 0.3)}
    made = TwoTowerNetwork(shapes, 30, torch.randn(30, 7), 5).eval()
    for tower in made.towers.values():
        torch.nn.init.normal_(tower.position_bias)
        torch.nn.init.normal_(tower.time_bias)
    return made


def history(items, times):
    items, times = torch.tensor(items), torch.tensor(times)
    return History(items, time_gaps(times), torch.tensor([items.shape[1]] * len(items)))


def encode(network, items, times):
    return list(network.users(history(items, times)).values())


def test_the_future_changes_nothing_before_it(network):
    one = encode(network, [[3, 4, 5, 6, 7]], [[0, 9, 20, 400, 5000]])
    other = encode(network, [[3, 4, 5, 29, 1]], [[0, 9, 20, 401, 99999]])
    assert [tuple(v.shape) for v in one] == [(1, 5, 64), (1, 5, 24)]
    for left, right in zip(one, other, strict=True):
        assert torch.allclose(left[:, :3], right[:, :3], atol=1e-6)
        assert not torch.allclose(left[:, 3:], right[:, 3:], atol=1e-3)


def test_padding_changes_nothing(network):
    alone = encode(network, [[3, 4, 5]], [[0, 9, 20]])
    padded = encode(network, [[3, 4, 5, 0, 0], [9, 8, 7, 6, 5]], [[0, 9, 20, 20, 20], [1, 2, 3, 4, 5]])
    for left, right in zip(alone, padded, strict=True):
        assert torch.allclose(left[0], right[0, :3], atol=1e-5)


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_the_last_position_alone_is_what_it_is_among_all(network, blocks):
    made = TwoTowerNetwork({"id_tower": TowerShape(16, blocks, 12, 0.3)}, 30, torch.randn(30, 7), 5).eval()
    for tower in made.towers.values():
        torch.nn.init.normal_(tower.position_bias)
        torch.nn.init.normal_(tower.time_bias)
    asked = history([[3, 4, 5, 0, 0], [9, 8, 7, 6, 5]], [[0, 9, 20, 20, 20], [1, 2, 3, 400, 99999]])
    asked = History(asked.items, asked.gaps, torch.tensor([3, 5]))
    for own in (network, made):
        states, last = own.users(asked), own.last_users(asked)
        assert states.keys() == last.keys()
        for name, vectors in last.items():
            assert torch.allclose(vectors, states[name][[0, 1], [2, 4]], atol=1e-5)


def test_order_and_time_matter(network):
    base = encode(network, [[3, 4, 5]], [[0, 10, 20]])
    for other in (([[4, 3, 5]], [[0, 10, 20]]), ([[3, 4, 5]], [[0, 10, 90000]])):
        for left, right in zip(base, encode(network, *other), strict=True):
            assert not torch.allclose(left[0, -1], right[0, -1], atol=1e-3)


def test_only_time_differences_matter(network):
    early = encode(network, [[3, 4, 5]], [[0, 10, 20]])
    late = encode(network, [[3, 4, 5]], [[978300000, 978300010, 978300020]])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(early, late, strict=True))


def test_a_tower_without_blocks_reads_the_last_item_alone():
    network = TwoTowerNetwork({"content_tower": TowerShape(8, 0, 6, 0.0)}, 30, torch.randn(30, 7), 5).eval()
    one = encode(network, [[3, 4, 5]], [[0, 10, 20]])[0]
    other = encode(network, [[9, 8, 5]], [[0, 1, 20]])[0]
    assert torch.equal(one[0, -1], other[0, -1])
    assert not torch.allclose(one[0, 0], other[0, 0], atol=1e-3)


def test_time_gaps_grow_in_octaves_and_never_look_forward():
    gaps = time_gaps(torch.tensor([[0, 1, 3, 1 << 40]]))[0]
    assert gaps[0].tolist() == [0, 0, 0, 0]
    assert gaps[1, 0] == 2
    assert gaps[2].tolist() == [4, 3, 0, 0]
    assert gaps[3].max() == 63


def test_lookup_and_its_gradient():
    table = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    index = torch.from_numpy(np.random.default_rng(0).integers(0, 6, (2, 4, 4)))
    assert torch.equal(_Lookup.apply(table, index), table[index].permute(3, 0, 1, 2))
    assert torch.autograd.gradcheck(lambda t: _Lookup.apply(t, index), table)


@pytest.mark.parametrize(("dim", "heads"), [(8, 1), (24, 1), (64, 2), (72, 2), (96, 3), (120, 3), (256, 8)])
def test_heads_divide_the_width(dim, heads):
    shape = TowerShape(dim, 1, 5, 0.0)
    assert shape.heads == heads
    network = TwoTowerNetwork({"id_tower": shape}, 6, torch.zeros(6, 2), 3)
    assert encode(network, [[1, 2]], [[0, 1]])[0].shape == (1, 2, dim)


def test_members_of_an_ensemble_read_and_write_their_own_columns():
    torch.manual_seed(1)
    ensemble = tower_of(TowerShape(24, 2, 12, 0.3, members=3)).eval()
    vectors, asked = torch.randn(2, 5, 24), history([[3, 4, 5, 6, 7]] * 2, [[0, 9, 20, 400, 5000]] * 2)
    assert len(ensemble.members) == 3
    assert not torch.equal(ensemble.members[0].blocks[0].out.weight, ensemble.members[1].blocks[0].out.weight)
    for at in ((), (torch.tensor([5, 2]),)):
        found = ensemble(vectors, asked.gaps, *at)
        assert found.shape == ((2, 24) if at else (2, 5, 24))
        for number, member in enumerate(ensemble.members):
            own = slice(8 * number, 8 * number + 8)
            assert torch.equal(found[..., own], member(vectors[..., own], asked.gaps, *at))


def test_shapes_are_those_of_the_towers_that_are_named():
    settings = AlignSettings(
        embedding_dim=32, content_dim=16, n_blocks=3, n_content_blocks=0, max_history=9, dropout=0.1
    )
    both = tower_shapes(settings)
    assert both == {"id_tower": TowerShape(32, 3, 9, 0.1), "content_tower": TowerShape(16, 0, 9, 0.1)}
    several = tower_shapes(settings.model_copy(update={"members": 3}))
    assert several == both | {"id_tower": TowerShape(96, 3, 9, 0.1, members=3)}
    assert several["id_tower"].member == both["id_tower"]
    assert list(tower_shapes(settings.model_copy(update={"models": ("content_tower",)}))) == ["content_tower"]
    assert tower_shapes(settings.model_copy(update={"models": ("ease",)})) == {}
    for open_size in ("embedding_dim", "max_history"):
        with pytest.raises(ValueError, match="open"):
            tower_shapes(settings.model_copy(update={open_size: None}))


def test_a_network_has_only_what_its_towers_need():
    shape = TowerShape(8, 1, 6, 0.0)
    alone = TwoTowerNetwork({"id_tower": shape}, 30, torch.randn(30, 7), 5)
    assert not any("content_tower" in name or "project" in name for name in alone.state_dict())
    other = TwoTowerNetwork({"content_tower": shape}, 30, torch.randn(30, 7), 5)
    assert not any("id_tower" in name for name in other.state_dict())
    assert "items.content_tower.features" not in other.state_dict(), "they are stored once, by the model"
    assert not list(TwoTowerNetwork({}, 30, torch.randn(30, 7), 5).parameters())


def test_items_of_a_content_tower_are_their_features_at_one_pace():
    features = torch.nn.functional.normalize(torch.randn(20, 9), dim=1)
    features[4] = 0
    side = ContentMap(features, 6)
    expected = 3 * features @ side.project.weight.T
    assert torch.allclose(side(), expected, atol=1e-6)
    assert torch.allclose(side(torch.tensor([[7, 4]]))[0], expected[[7, 4]], atol=1e-6)
    assert not side()[4].any()


def test_item_sides_are_centred_on_warm_items_and_zero_elsewhere(network):
    warm = np.ones(30, bool)
    warm[[2, 9]] = False
    table = network.items["id_tower"].weight.detach().numpy().copy()
    sides = item_sides(network, warm)
    np.testing.assert_allclose(sides["id_tower"][warm], table[warm] - table[warm].mean(0), atol=1e-6)
    assert not sides["id_tower"][[2, 9]].any()
    np.testing.assert_array_equal(sides["content_tower"], network.items["content_tower"]().detach().numpy())
    assert np.array_equal(network.items["id_tower"].weight.detach().numpy(), table), "the network stays as it is"
    assert not item_sides(network, np.zeros(30, bool))["id_tower"].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_drops_its_share_scales_the_rest_and_hides_the_same_from_the_gradient(rate, dtype):
    x = torch.ones(301, 67, dtype=dtype, requires_grad=True)
    dropout = Dropout(rate)
    out = dropout(x)
    assert out.dtype == dtype
    kept = out != 0
    assert (~kept).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert torch.unique(out[kept]).tolist() == pytest.approx([1 / (1 - round(256 * rate) / 256)], rel=1e-2)
    assert kept.float().mean(0).min() > 0.6 * (1 - rate), "no column is left out"
    out.sum().backward()
    assert torch.equal(x.grad != 0, kept)
    assert torch.equal(x.grad, out.detach())
    torch.manual_seed(5)
    again = dropout(x)
    torch.manual_seed(5)
    assert torch.equal(dropout(x), again)
    assert not torch.equal(again != 0, kept)


def test_dropout_does_nothing_outside_of_training_or_at_rate_zero():
    x = torch.randn(5, 3)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x


def test_content_of_many_rows_is_that_of_each():
    torch.manual_seed(0)
    side = ContentMap(torch.randn(9, 4), 5)
    rows = torch.randint(0, 9, (4, 6))
    few = torch.stack([side(row[:3]) for row in rows])
    assert torch.allclose(side(rows)[:, :3], few, atol=1e-6)
    side(rows).pow(2).sum().backward()
    at_once = side.project.weight.grad.clone()
    side.project.weight.grad = None
    sum(side(row[:3]).pow(2).sum() + side(row[3:]).pow(2).sum() for row in rows).backward()
    assert torch.allclose(side.project.weight.grad, at_once, rtol=1e-4, atol=1e-4)
