"""SASRec's network (Kang and McAuley 2018, arXiv 1808.09781) and its full cross-entropy."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INITIAL_STD = 0.02
_CHUNK_ELEMENTS = 1 << 19


class _Block(nn.Module):
    """Causal self-attention with normalised queries, then a point-wise feed-forward layer, both residual."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_forward = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, dim)
        self.outer = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, dim) to (B, L, dim)."""
        normal = self.norm_attention(x)
        q, (k, v) = self.query(normal), self.key_value(x).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = self.norm_forward(normal + self.dropout(self.out(attended.transpose(1, 2).flatten(2))))
        result: Tensor = x + self.dropout(self.outer(F.relu(self.dropout(self.inner(x)))))
        return result


class SASRecNetwork(nn.Module):
    """From a history of items to a user vector after each of its places; a score is its dot product with an item's.

    As in the reference implementations, but for two things: dropout is on the output of the attention and not on its
    weights, which lets the fused kernel do the work; and places are counted from the start of a history.

    Sizes are those of the vocabulary, of the longest history and of an item's vector; dropout is a rate in [0, 1).
    """

    def __init__(self, n_items: int, history: int, *, dim: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, dim)
        self.places = nn.Embedding(history, dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(dim, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.apply(_initialise)

    def forward(self, history: Tensor) -> Tensor:
        """User vectors (B, L, dim) for item rows (B, L), padded on the right, which no earlier place can see."""
        x = self.items(history) * self.items.embedding_dim**0.5 + self.places.weight[: history.shape[1]]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        users: Tensor = self.norm(x)
        return users


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_INITIAL_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def cross_entropy(users: Tensor, items: Tensor, targets: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """Next-item cross-entropy over all items, summed over the targets.

    The logits live only for a chunk of users at a time: their gradient is known as soon as they are, so it is taken at
    once and nothing is computed twice. User vectors are (T, d), those of all items (n, d), rows of targets (T,). The
    ``precision`` is that of the matrix products; sums of exponentials are in float32.
    """
    result: Tensor = _CrossEntropy.apply(users, items, targets, precision)  # type: ignore[no-untyped-call]
    return result


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, targets: Tensor, precision: torch.dtype) -> Tensor:
        low_users, low_items = users.to(precision), items.to(precision)
        for_users = torch.empty(users.shape, dtype=torch.float32, device=users.device)
        for_items = torch.zeros(items.shape, dtype=torch.float32, device=items.device)
        loss = torch.zeros((), device=users.device)
        size = max(16, _CHUNK_ELEMENTS // len(items))
        for begin in range(0, len(users), size):
            part = slice(begin, begin + size)
            logits = low_users[part] @ low_items.T
            highest = logits.amax(-1, keepdim=True).float()
            own = logits.gather(1, targets[part, None]).float()
            weights = logits.float().sub_(highest).exp_()  # in float32 the logits themselves, from here on lost
            total = weights.sum(-1, keepdim=True)
            loss += (total.log() + highest - own).sum()
            # The softmax is weights / total; dividing the small matrices saves a pass over the large one.
            weights = weights.to(precision)
            for_users[part] = (weights @ low_items) / total
            for_items += weights.T @ (low_users[part] / total).to(precision)
        for_users -= low_items[targets]
        for_items.index_add_(0, targets, low_users.float(), alpha=-1)
        ctx.save_for_backward(for_users, for_items)
        ctx.dtypes = users.dtype, items.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        for_users, for_items = ctx.saved_tensors
        return (for_users * grads[0]).to(ctx.dtypes[0]), (for_items * grads[0]).to(ctx.dtypes[1]), None, None
