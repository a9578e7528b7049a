"""The post-alignment network: causal sequence models in separate towers, scores summed late.

Each tower reads the same history in its own item vectors and predicts the next item as a dot product with them:

* the *ID* tower owns a table of item vectors, started from the ALS factors;
* the *content* tower sees frozen content vectors through one linear map per block, so an item nobody has bought
  yet has a place in its space from the first day.

A user's score for an item is the sum of both dot products, which is one dot product of concatenated vectors, so one
vector per item serves both towers in the index. Late summation of separately trained ID and content towers follows
EnsRec (arXiv 2512.17820); the towers are decoder blocks with gated attention and relative position and time biases in
the manner of HSTU (arXiv 2402.17152) and LiGR (arXiv 2502.03417).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molar_retrieval.workspace.settings import AlignSettings

TIME_BUCKETS = 64
START_SCALE = 0.1
"""Root mean square of an item vector's elements before training, in all towers."""
_LEAST_WORD = torch.iinfo(torch.int64).min
_LANES = 8
HEAD = 32
"""Dimensions of an attention head."""


class History(NamedTuple):
    """A batch of histories, padded on the right with 0: item rows (B, L), time gaps (B, L, L), lengths (B,), int64."""

    items: Tensor
    gaps: Tensor
    lengths: Tensor

    def to(self, device: torch.device | str) -> "History":
        """The same batch on another device."""
        return History(*(tensor.to(device) for tensor in self))


def time_gaps(timestamps: Tensor) -> Tensor:
    """Bucket of the time between positions i and j: two buckets an octave of seconds, shape (B, L) → (B, L, L).

    By the exponent of the squared seconds, which is the same on every machine; a logarithm may round to the next one.
    """
    gap = (timestamps[:, :, None] - timestamps[:, None, :]).to(torch.float32).clamp_(min=0).add_(1).square_()
    return (gap.view(torch.int32) >> 23).sub_(127).clamp_(max=TIME_BUCKETS - 1).to(torch.int64)


@dataclass(frozen=True)
class TowerShape:
    """Sizes of one tower, or of an ensemble of some ``members``, whose vectors together have ``dim`` numbers."""

    dim: int
    blocks: int
    history: int
    dropout: float
    members: int = 1

    @property
    def heads(self) -> int:
        """Attention heads, of 32 dimensions or more each."""
        return max(heads for heads in range(1, max(1, self.dim // HEAD) + 1) if self.dim % heads == 0)

    @property
    def member(self) -> "TowerShape":
        """Sizes of one member."""
        return replace(self, dim=self.dim // self.members, members=1)


def tower_shapes(settings: AlignSettings) -> dict[str, TowerShape]:
    """The shape of each tower that the settings name; ValueError if a size is still open.

    They are filled in by :func:`molar_retrieval.models.towers.training.sized`.
    """
    if settings.embedding_dim is None or settings.max_history is None:
        raise ValueError("the sizes are open")
    own, history, members = settings.embedding_dim * settings.members, settings.max_history, settings.members
    shapes = {
        "id_tower": TowerShape(own, settings.n_blocks, history, settings.dropout, members),
        "content_tower": TowerShape(settings.content_dim, settings.n_content_blocks, history, settings.dropout),
    }
    return {name: shapes[name] for name in settings.towers}


class Dropout(nn.Module):
    """Dropout from one random byte an element, as drawing is what it costs on a CPU; rates, in [0, 1), are 256ths."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropped = min(255, round(256 * rate))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with elements dropped and the others scaled up, or as it is outside of training."""
        if not self.training or not self.dropped:
            return x
        words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64, device=x.device).random_(_LEAST_WORD, None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        result: Tensor = _Masked.apply(x, kept, 256 / (256 - self.dropped))  # type: ignore[no-untyped-call]
        return result


class _Masked(torch.autograd.Function):
    """``x * scale`` where kept, else 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return (x * scale).mul_(kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return (grads[0] * ctx.scale).mul_(kept), None, None


class TowerBlock(nn.Module):
    """Gated causal self-attention and a gated feed-forward layer, both residual and pre-normalised."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        d = shape.dim
        self.heads = shape.heads
        self.norm_attention = nn.LayerNorm(d)
        self.qkvg = nn.Linear(d, 4 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.norm_ff = nn.LayerNorm(d)
        self.up = nn.Linear(d, 4 * d, bias=False)
        self.down = nn.Linear(2 * d, d, bias=False)
        self.dropout = Dropout(shape.dropout)

    def forward(self, x: Tensor, bias: Tensor, at: Tensor | None = None) -> Tensor:
        """Map (B, L, d) to (B, L, d); ``bias`` (heads, B, L, L) holds the causal mask too.

        With ``at``, one position of each history, (B,), to (B, 1, d): what is there; ``bias`` is (heads, B, 1, L).
        """
        q, k, v, g = self.qkvg(self.norm_attention(x)).chunk(4, -1)
        if at is not None:
            x, q, g = (t[torch.arange(len(t), device=t.device), at][:, None] for t in (x, q, g))
        batch, length, d = x.shape
        q, k, v = (t.view(batch, t.shape[1], self.heads, -1).permute(2, 0, 1, 3) for t in (q, k, v))
        scores = (q * (d // self.heads) ** -0.5) @ k.transpose(-1, -2)
        attended = (scores + bias).softmax(-1).to(v.dtype) @ v
        x = x + self.dropout(self.out(attended.permute(1, 2, 0, 3).reshape(batch, length, d) * F.silu(g)))
        a, b = self.up(self.norm_ff(x)).chunk(2, -1)
        result: Tensor = x + self.dropout(self.down(F.silu(a) * b))
        return result


class Tower(nn.Module):
    """From the vectors of a history to a user vector after each of its positions."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.blocks = nn.ModuleList(TowerBlock(shape) for _ in range(shape.blocks))
        columns = shape.blocks * shape.heads
        self.position_bias = nn.Parameter(torch.zeros(shape.history, columns))
        self.time_bias = nn.Parameter(torch.zeros(TIME_BUCKETS, columns))
        self.dropout = Dropout(shape.dropout)
        self.norm = nn.LayerNorm(shape.dim)
        self.query = nn.Linear(shape.dim, shape.dim, bias=False)
        nn.init.eye_(self.query.weight)

    def forward(self, vectors: Tensor, gaps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """User vectors (B, L, dim) for item vectors (B, L, dim) and gap buckets (B, L, L).

        With the ``lengths`` of the histories, (B,), those after the last position alone, (B, dim): the last block is
        asked about that one, which spares nearly half of the work.
        """
        if lengths is not None:
            return self._last(vectors, gaps, lengths)
        x = self.dropout(vectors)
        place = torch.arange(vectors.shape[1], device=gaps.device)
        for block, bias in zip(self.blocks, self._biases(place, gaps, 0, len(self.blocks)), strict=True):
            x = block(x, bias)
        users: Tensor = self.query(self.norm(x))
        return users

    def _last(self, vectors: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        at, blocks, count = lengths - 1, list(self.blocks), len(self.blocks)
        x, rows = self.dropout(vectors), torch.arange(len(vectors), device=gaps.device)
        place = torch.arange(vectors.shape[1], device=gaps.device)
        for block, bias in zip(blocks[:-1], self._biases(place, gaps, 0, count - 1), strict=True):
            x = block(x, bias)
        if blocks:
            (bias,) = self._biases(at, gaps[rows, at], count - 1, count)
            x = blocks[-1](x, bias.transpose(1, 2), at)
        else:
            x = x[rows, at][:, None]
        users: Tensor = self.query(self.norm(x))[:, 0]
        return users

    def _biases(self, place: Tensor, gaps: Tensor, first: int, end: int) -> list[Tensor]:
        """Of some of the blocks, (heads, B, L, L), for the positions ``place`` (L,) and gaps (B, L, L).

        Where each history has one ``place``, (B,), and gaps (B, L), they have shape (heads, 1, B, L).
        """
        if first >= end:
            return []
        own = slice(first * self.shape.heads, end * self.shape.heads)
        distance = place[:, None] - torch.arange(gaps.shape[-1], device=gaps.device)
        future = torch.zeros(distance.shape, device=gaps.device).masked_fill_(distance < 0, float("-inf"))
        position = self.position_bias.T[own][:, distance.clamp(0, self.shape.history - 1)] + future
        bias: Tensor = _Lookup.apply(self.time_bias[:, own], gaps)  # type: ignore[no-untyped-call]
        bias = bias.view(len(bias), -1, *position.shape[1:]) + position[:, None]
        return list(torch.split(bias, self.shape.heads))


class TowerEnsemble(nn.Module):
    """Towers from random starts of their own, each with its share of the columns of all vectors.

    So the score of an item is the sum of theirs (deep ensembles, Lakshminarayanan et al. 2017, arXiv 1612.01474).
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.members = nn.ModuleList(Tower(shape.member) for _ in range(shape.members))

    def forward(self, vectors: Tensor, gaps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """See :class:`Tower`; ``dim`` is that of all members together."""
        shares = vectors.chunk(len(self.members), -1)
        return torch.cat([member(own, gaps, lengths) for member, own in zip(self.members, shares, strict=True)], -1)


def tower_of(shape: TowerShape) -> Tower | TowerEnsemble:
    """A fresh tower, or an ensemble of some."""
    return Tower(shape) if shape.members == 1 else TowerEnsemble(shape)


class _Lookup(torch.autograd.Function):
    """``table[index]`` with the columns first: (R, C), (…) → (C, …), a column at a time, which is fastest on a CPU."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = table.shape[0]
        flat = index.reshape(-1)
        found = table.new_empty(table.shape[1], len(flat))
        for column, out in zip(table.T.contiguous(), found, strict=True):
            torch.index_select(column, 0, flat, out=out)
        return found.view(-1, *index.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        # Neighbours mostly fall on one row; in lanes of their own they need not wait for each other.
        lane = torch.arange(index.shape[-1], device=index.device) % _LANES
        place = (index + lane * ctx.rows).reshape(-1)
        flat = grads[0].reshape(len(grads[0]), -1)
        sums = flat.new_zeros(len(flat), _LANES * ctx.rows).scatter_add_(1, place.expand(len(flat), -1), flat)
        return sums.view(len(flat), _LANES, ctx.rows).sum(1).T, None


class ItemEmbedding(nn.Module):
    """The item side of the ID tower: a vector per item."""

    def __init__(self, n_items: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_items, dim) * START_SCALE)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """The vectors of the items at ``rows`` (any shape), or of all items."""
        return self.weight if rows is None else F.embedding(rows, self.weight)


class ContentMap(nn.Module):
    """The item side of the content tower: one linear map of frozen content features (n_items, f), of length 1 or 0."""

    features: Tensor

    def __init__(self, features: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        # Features have length 1; brought to unit variance they learn at the pace of an item table.
        self.scale = features.shape[1] ** 0.5
        self.project = nn.Linear(features.shape[1], dim, bias=False)
        nn.init.normal_(self.project.weight, std=START_SCALE / self.scale)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """The vectors of the items at ``rows`` (any shape), or of all items."""
        if rows is not None and rows.numel() >= len(self.features):
            return F.embedding(rows, self().float())  # each item once
        vectors: Tensor = self.project((self.features if rows is None else self.features[rows]) * self.scale)
        return vectors


class TwoTowerNetwork(nn.Module):
    """The towers with their item sides, and the projection of ALS user factors for the alignment loss.

    ``shapes`` names the towers, ``id_tower`` or ``content_tower``; the conditioned content features have shape
    (n_items, f) and are frozen; ``factors`` is the length of an ALS user factor.
    """

    def __init__(self, shapes: Mapping[str, TowerShape], n_items: int, features: Tensor, factors: int) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.towers = nn.ModuleDict({name: tower_of(shape) for name, shape in shapes.items()})
        sides: dict[str, nn.Module] = {
            name: ContentMap(features, shape.dim) if name == "content_tower" else ItemEmbedding(n_items, shape.dim)
            for name, shape in shapes.items()
        }
        self.items = nn.ModuleDict(sides)
        if "content_tower" in shapes:
            self.project_factors = nn.Linear(factors, shapes["content_tower"].dim, bias=False)

    def drop(self, name: str) -> None:
        """Leave a tower out from here on; its parameters stay until :meth:`pruned`."""
        self.shapes.pop(name, None)

    def pruned(self) -> Self:
        """The same without what was dropped; nothing is copied."""
        for modules in (self.towers, self.items):
            for name in [name for name in modules if name not in self.shapes]:
                del modules[name]
        if "content_tower" not in self.shapes and hasattr(self, "project_factors"):
            del self.project_factors
        return self

    def users(self, history: History) -> dict[str, Tensor]:
        """User vectors of each tower after each position, each (B, L, dim)."""
        return {name: self.towers[name](self.items[name](history.items), history.gaps) for name in self.shapes}

    def last_users(self, history: History) -> dict[str, Tensor]:
        """User vectors of each tower after the last position, each (B, dim)."""
        at = history.gaps, history.lengths
        return {name: self.towers[name](self.items[name](history.items), *at) for name in self.shapes}
