"""Contrastive losses, computed in float32; vectors come with length 1."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(left: Tensor, right: Tensor, blocked: Tensor, temperature: float) -> Tensor:
    """Each view of an item finds the other among those of the step, both ways.

    Args:
        left: One view of each item, shape (b, d).
        right: The other, shape (b, d).
        blocked: Whether ``right[j]`` would be a right answer to ``left[i]`` as well and is no negative, shape (b, b),
            False on the diagonal.
        temperature: Divides the cosines.

    Returns:
        The mean loss, a scalar.
    """
    logits = (left @ right.T / temperature).masked_fill(blocked, float("-inf"))
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def next_item(
    users: Tensor, items: Tensor, target: Tensor, log_q: Tensor, blocked: Tensor, temperature: float
) -> Tensor:
    """A history finds the item that comes next among all items of the step.

    These come as often as people take them, so the logarithm of that is taken from each logit (Yi et al. 2019,
    doi:10.1145/3298689.3346996); else popular items would be pushed away for being in every step.

    Args:
        users: Directions of the histories, shape (b, d).
        items: The step's distinct items, shape (m, d).
        target: Which of them came next, shape (b,).
        log_q: Logarithm of each item's share of the interactions, shape (m,).
        blocked: Items that are no negatives for a history, shape (b, m), False at its target.
        temperature: Divides the cosines.

    Returns:
        The mean loss, a scalar.
    """
    logits = (users @ items.T / temperature - log_q).masked_fill(blocked, float("-inf"))
    return F.cross_entropy(logits, target)
