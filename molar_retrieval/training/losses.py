"""Losses of what came next and of views that belong together, computed in float32."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 512


def sampled_softmax(
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    targets: Tensor,
    sampled: Tensor,
    population: int,
    counts: Tensor | None = None,
) -> Tensor:
    """Next-item cross-entropy against negatives shared by the batch.

    The negatives are a uniform sample without replacement; their logits are raised by log(population / sample size),
    the correction of Jean et al. (arXiv 1412.2007), so that the sum estimates that over all items.

    Args:
        users: User vectors, shape (T, d).
        positives: Vectors of the items that came next, shape (T, d).
        negatives: Vectors of the sampled items, shape (N, d).
        targets: Rows of the items that came next, shape (T,).
        sampled: Rows of the sampled items, shape (N,).
        population: From how many items the sample was drawn.
        counts: Which of the positions count, shape (T,), the others being padding; None: all.

    Returns:
        The mean loss of those, a scalar; 0 where there are none.
    """
    positive = (users * positives).sum(-1, dtype=torch.float32)
    shift = math.log(population / len(sampled))
    total: Tensor = _LogSumExp.apply(users, negatives.to(users.dtype), positive, targets, sampled, shift)  # type: ignore[no-untyped-call]
    loss = total - positive
    if counts is None:
        return loss.mean()
    return torch.where(counts, loss, 0).sum() / counts.sum().clamp(min=1)


class _LogSumExp(torch.autograd.Function):
    """log(exp(positive) + Σ exp(users · negatives + shift)), some rows at a time, which stay in the cache."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, negatives: Tensor, positive: Tensor, targets: Tensor, sampled: Tensor, shift: float
    ) -> Tensor:
        logits = users @ negatives.T
        _strike(logits, targets, sampled)
        weights, highest, total = torch.empty_like(logits), torch.empty_like(positive), torch.empty_like(positive)
        for begin in range(0, len(logits), _ROWS):
            rows = slice(begin, begin + _ROWS)
            block = logits[rows].float()
            highest[rows] = torch.maximum(block.amax(-1).add_(shift), positive[rows])
            block.sub_((highest[rows] - shift)[:, None]).exp_()
            total[rows] = block.sum(-1)
            weights[rows] = block
        own = (positive - highest).exp_()
        total.add_(own)
        ctx.save_for_backward(users, negatives, weights, own, total)
        return total.log() + highest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        users, negatives, weights, own, total = ctx.saved_tensors
        scale = grads[0] / total
        scaled = scale.to(users.dtype)[:, None]
        return (weights @ negatives) * scaled, weights.T @ (users * scaled), own * scale, None, None, None


def _strike(logits: Tensor, targets: Tensor, sampled: Tensor) -> None:
    """Put −∞ where a sampled item is the row's own target."""
    place = torch.full((int(max(targets.max(), sampled.max())) + 1,), -1, device=targets.device)
    place[sampled] = torch.arange(len(sampled), device=targets.device)
    column = place[targets]
    rows = torch.nonzero(column >= 0)[:, 0]
    logits[rows, column[rows]] = float("-inf")


def info_nce(left: Tensor, right: Tensor, temperature: float, blocked: Tensor | None = None) -> Tensor:
    """Two views of each item, or user, find each other among those of the step, both ways.

    ``-½ · mean_u [log softmax_j(l_u · r_j / τ)_u + log softmax_j(r_u · l_j / τ)_u]``; with one view from content and
    one from interactions it is the user-level alignment of arXiv 2412.18176, section 3.4.

    Args:
        left: One view of each, shape (b, d), float32, rows of length 1.
        right: The other, shape (b, d).
        temperature: τ, divides the cosines.
        blocked: Whether ``right[j]`` would be a right answer to ``left[i]`` as well and is no negative, shape (b, b),
            False on the diagonal; None: none.

    Returns:
        The mean loss, a scalar; 0 for a single one, which has nothing to be told from.
    """
    logits = left @ right.T / temperature
    if blocked is not None:
        logits = logits.masked_fill(blocked, float("-inf"))
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def next_item(
    users: Tensor, items: Tensor, target: Tensor, log_q: Tensor, blocked: Tensor, temperature: float
) -> Tensor:
    """A history finds the item that comes next among all items of the step.

    These come as often as people take them, so the logarithm of that is taken from each logit (Yi et al. 2019,
    doi:10.1145/3298689.3346996); else popular items would be pushed away for being in every step.

    Args:
        users: Directions of the histories, shape (b, d), float32, rows of length 1.
        items: The step's distinct items, shape (m, d), likewise.
        target: Which of them came next, shape (b,).
        log_q: Logarithm of each item's share of the interactions, shape (m,).
        blocked: Items that are no negatives for a history, shape (b, m), False at its target.
        temperature: Divides the cosines.

    Returns:
        The mean loss, a scalar.
    """
    logits = (users @ items.T / temperature - log_q).masked_fill(blocked, float("-inf"))
    return F.cross_entropy(logits, target)
