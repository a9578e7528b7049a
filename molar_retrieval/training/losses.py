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
    """Mean next-item cross-entropy against negatives shared by the batch.

    The negatives are a uniform sample without replacement; their logits are raised by log(population / sample size),
    the correction of Jean et al. (arXiv 1412.2007), so that the sum estimates that over all items.

    User vectors and those of the items that came next have shape (T, d), those of the sampled items (N, d); ``targets``
    (T,) and ``sampled`` (N,) are the rows of these items. Which positions count, (T,), None: all, says ``counts``; the
    others are padding, and the loss is 0 where all are.
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
    one from interactions it is the user-level alignment of arXiv 2412.18176, section 3.4. The mean loss of a single
    one, which has nothing to be told from, is 0.

    Views have shape (b, d), float32, rows of length 1. Where ``blocked``, shape (b, b), False on the diagonal,
    ``right[j]`` would be a right answer to ``left[i]`` as well and is no negative.
    """
    logits = left @ right.T / temperature
    if blocked is not None:
        logits = logits.masked_fill(blocked, float("-inf"))
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def next_item(
    users: Tensor, items: Tensor, target: Tensor, log_q: Tensor, blocked: Tensor, temperature: float
) -> Tensor:
    """Mean loss of histories that find the item that comes next among all items of the step.

    These come as often as people take them, so the logarithm of that, shape (m,), is taken from each logit (Yi et al.
    2019, doi:10.1145/3298689.3346996); else popular items would be pushed away for being in every step.

    Directions of histories (b, d) and of the step's distinct items (m, d) are float32, rows of length 1; ``target``
    (b,) says which item came next, ``blocked`` (b, m) which are no negatives, False at the target.
    """
    logits = (users @ items.T / temperature - log_q).masked_fill(blocked, float("-inf"))
    return F.cross_entropy(logits, target)
