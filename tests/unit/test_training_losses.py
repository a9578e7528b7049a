"""The hand-written gradients against autograd's."""

import math

import pytest
import torch

from molar_retrieval.models.towers.training import info_nce, sampled_softmax


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def naive(users, positives, negatives, targets, sampled, population):
    positive = (users * positives).sum(-1)
    negative = users @ negatives.T + math.log(population / len(sampled))
    negative = negative.masked_fill(targets[:, None] == sampled[None, :], float("-inf"))
    return (torch.cat([positive[:, None], negative], 1).logsumexp(1) - positive).mean()


def test_sampled_softmax_equals_the_naive_formula_and_its_gradients():
    users, positives = (torch.randn(9, 5, requires_grad=True) for _ in range(2))
    negatives = torch.randn(4, 5, requires_grad=True)
    targets, sampled = torch.tensor([0, 1, 2, 3, 9, 8, 7, 0, 5]), torch.tensor([0, 3, 5, 6])
    arguments = (users, positives, negatives)
    ours = sampled_softmax(*arguments, targets, sampled, 20)
    expected = naive(*arguments, targets, sampled, 20)
    assert torch.allclose(ours, expected, atol=1e-6)
    for got, want in zip(torch.autograd.grad(ours, arguments), torch.autograd.grad(expected, arguments), strict=True):
        assert torch.allclose(got, want, atol=1e-6)


def test_sampling_everything_is_the_full_cross_entropy():
    users, table = torch.randn(6, 5), torch.randn(10, 5)
    targets, everything = torch.tensor([1, 2, 3, 4, 5, 9]), torch.arange(10)
    full = torch.nn.functional.cross_entropy(users @ table.T, targets)
    assert torch.allclose(sampled_softmax(users, table[targets], table, targets, everything, 10), full, atol=1e-5)


def test_large_logits_do_not_overflow():
    users = torch.full((2, 3), 1e3, requires_grad=True)
    table = torch.eye(3) * 1e3
    loss = sampled_softmax(users, table[:2], table, torch.tensor([0, 1]), torch.arange(3), 3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(users.grad).all()


def test_info_nce_prefers_matching_views_and_is_symmetric():
    left = torch.eye(4)
    assert info_nce(left, left, 0.1) < 0.01
    assert info_nce(left, left.roll(1, 0), 0.1) > 5
    right = torch.randn(4, 4)
    assert torch.allclose(info_nce(left, right, 0.3), info_nce(right, left, 0.3))


def test_info_nce_of_a_single_user_is_zero():
    assert info_nce(torch.randn(1, 3), torch.randn(1, 3), 0.1) == 0


def test_positions_that_do_not_count_are_as_if_they_were_not_there():
    torch.manual_seed(0)
    users, table = torch.randn(6, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    targets, everything = torch.tensor([0, 3, 8, 2, 2, 5]), torch.arange(9)
    counts = torch.tensor([True, False, True, True, False, False])
    loss = sampled_softmax(users, table[targets], table, targets, everything, 9, counts)
    loss.backward()
    slopes = [users.grad.clone(), table.grad.clone()]
    users.grad = table.grad = None
    fewer = sampled_softmax(users[counts], table[targets[counts]], table, targets[counts], everything, 9)
    fewer.backward()
    assert loss.item() == pytest.approx(fewer.item(), rel=1e-6)
    for ours, theirs in zip(slopes, (users.grad, table.grad), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    nothing = sampled_softmax(users, table[targets], table, targets, everything, 9, torch.zeros(6, dtype=torch.bool))
    assert nothing.item() == 0
