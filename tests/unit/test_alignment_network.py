"""Shapes, causality, padding and the score's split of the post-alignment network."""

import numpy as np
import pytest
import torch

from molar_retrieval.alignment.network import History, PostAlignment, TowerShape, _Lookup, time_gaps


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def network():
    shape = TowerShape(dim=16, blocks=2, heads=2, history=12, dropout=0.3)
    made = PostAlignment(shape, shape, 30, torch.randn(30, 7), 5).eval()
    for tower in (made.collaborative, made.content):
        torch.nn.init.normal_(tower.position_bias)
        torch.nn.init.normal_(tower.time_bias)
    return made


def history(items, times):
    items, times = torch.tensor(items), torch.tensor(times)
    return History(items, time_gaps(times), torch.tensor([items.shape[1]] * len(items)))


def test_the_future_changes_nothing_before_it(network):
    one = network.users(history([[3, 4, 5, 6, 7]], [[0, 9, 20, 400, 5000]]))
    other = network.users(history([[3, 4, 5, 29, 1]], [[0, 9, 20, 401, 99999]]))
    for left, right in zip(one, other, strict=True):
        assert torch.allclose(left[:, :3], right[:, :3], atol=1e-6)
        assert not torch.allclose(left[:, 3:], right[:, 3:], atol=1e-3)


def test_padding_changes_nothing(network):
    alone = network.users(history([[3, 4, 5]], [[0, 9, 20]]))
    padded = network.users(history([[3, 4, 5, 0, 0], [9, 8, 7, 6, 5]], [[0, 9, 20, 20, 20], [1, 2, 3, 4, 5]]))
    for left, right in zip(alone, padded, strict=True):
        assert torch.allclose(left[0], right[0, :3], atol=1e-5)


def test_order_and_time_matter(network):
    base = network.users(history([[3, 4, 5]], [[0, 10, 20]]))[0][0, -1]
    assert not torch.allclose(base, network.users(history([[4, 3, 5]], [[0, 10, 20]]))[0][0, -1], atol=1e-3)
    assert not torch.allclose(base, network.users(history([[3, 4, 5]], [[0, 10, 90000]]))[0][0, -1], atol=1e-3)


def test_only_time_differences_matter(network):
    early = network.users(history([[3, 4, 5]], [[0, 10, 20]]))
    late = network.users(history([[3, 4, 5]], [[978300000, 978300010, 978300020]]))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(early, late, strict=True))


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
