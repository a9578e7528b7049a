"""Training the re-ranker on the validation cases, by cross-fitting.

The cases are those that no other part was fitted on. Four networks are trained, each on three quarters of the users,
with the softmax cross-entropy of what came next among the candidates. A case is judged by the one that has not seen
its user, which decides whether the re-ranker is used; the mean of the four is what ships. Candidates here are known
items only: nobody in training had a cold-start item, and a network would learn just that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import nn
from torch.nn import functional as F

from molar_retrieval import rng
from molar_retrieval.models.ensemble import Encoded, Ensemble, of_some
from molar_retrieval.models.towers.distributed import threads
from molar_retrieval.models.validation import ValidationCases, drawn, ndcg, rank_block
from molar_retrieval.ranking.reranker import CANDIDATES, Reranker, features, names, standardised
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Array, Ranks

FEWEST = 200
"""Cases with their target among the candidates from which a re-ranker is trained."""
_MOST_CASES = 6000
_FOLDS = 4
_HIDDEN = 16
_EPOCHS = 8
_BATCH = 128
_RATE = 3e-3
_DECAY = 0.3
_DROPPED = 0.3
"""Share of features that a case does without in training."""
_SCALES = np.geomspace(0.2, 20, 24)


@dataclass(frozen=True, eq=False)
class Lists:
    """Candidates of N validation cases."""

    scores: Array  # best first, -inf where a list is shorter, shape (N, C)
    rank: Ranks  # in the list that cold-start items have places in, shape (N, C)
    features: Array  # shape (N, C, F)
    target: Array  # which candidate is what came next, or -1, shape (N,)
    lower_bound: Ranks  # of what came next where it is no candidate, shape (N,)
    user: Array  # shape (N,)

    def ranks(self, scores: Array) -> Ranks:
        """Ranks of the targets under other scores of the same candidates, ties against them."""
        own = np.take_along_axis(scores, np.maximum(self.target, 0)[:, None], axis=1)
        # The n-th best candidate has the place of the n-th; cold-start items keep those between.
        worst = (scores >= own).sum(axis=1) - 1
        own_rank = np.take_along_axis(self.rank, worst[:, None], axis=1)[:, 0]
        found: Ranks = np.where(self.target >= 0, own_rank, self.lower_bound)
        return found


def fit(
    lists: Lists, names: tuple[str, ...], numbers: Mapping[str, tuple[float, float]], settings: AlignSettings
) -> tuple[Reranker, Ranks, Array] | None:
    """The re-ranker, and how it does on users that it did not see; None where there are too few cases.

    The latter are the ranks of all targets by the networks that did not see their users, and by how much these make the
    targets among the candidates likelier, in nats a case.
    """
    use = np.flatnonzero(lists.target >= 0)
    _, users = np.unique(lists.user, return_inverse=True)
    if len(use) < FEWEST or users.max() + 1 < _FOLDS:
        return None
    real = np.isfinite(lists.scores)
    mean, deviation = lists.features[real].mean(axis=0), lists.features[real].std(axis=0) + 1e-6
    given = standardised(lists.features, mean, deviation)
    own_scores, target = lists.scores[use], lists.target[use]
    scale = float(max(_SCALES, key=lambda one: _log_likelihood(one * own_scores, target).mean()))
    fold = rng.generator(settings.seed, "re-ranking folds").permutation(users.max() + 1)[users] % _FOLDS
    networks, judged = [], np.array(lists.scores)
    before = _log_likelihood(scale * own_scores, target)
    with threads(settings.threads), torch.random.fork_rng():
        for number in range(_FOLDS):
            torch.manual_seed(rng.derive_seed(settings.seed, "re-ranking", number))
            own = use[fold[use] != number]
            network = _Network(given.shape[2], scale)
            _train(network, lists.scores[own], given[own], lists.target[own])
            networks.append(network)
            others = fold == number
            with torch.inference_mode():
                judged[others] = network(_tensor(lists.scores[others]), _tensor(given[others])).numpy()

    weights = [(n.inner.weight.T, n.inner.bias, n.outer.weight[0], n.skip.weight[0], n.scale) for n in networks]
    stacked = (np.stack([tensor.detach().numpy() for tensor in one]) for one in zip(*weights, strict=True))
    standards = mean.astype(np.float32), deviation.astype(np.float32)
    reranker = Reranker(names, dict(numbers), *standards, *stacked)
    return reranker, lists.ranks(judged), _log_likelihood(judged[use], target) - before


def learned(
    model: Ensemble,
    cases: ValidationCases,
    numbers: Mapping[str, tuple[float, float]],
    settings: AlignSettings,
    encoded: Encoded | None = None,
) -> tuple[Reranker | None, dict[str, Any]]:
    """The re-ranker of a trained model, if validation bears it out, else None; and facts for the manifest.

    It is used where it makes what came next likelier by more than chance, two standard errors of the mean over users'
    cases, and ranks it no worse. Large numbers of cases are sampled; ``numbers`` holds mean and standard deviation of
    the model's numbers, by field; of the settings ``rerank``, ``seed`` and ``threads`` matter; ``encoded`` are the
    vectors of who is asked, if they were made before.
    """
    if settings.reranker is False:
        return None, {}
    chosen = drawn(len(cases), _MOST_CASES, rng.generator(settings.seed, "re-ranking cases"))
    lists = lists_of(model, cases.select(chosen), of_some(encoded, chosen))
    found = fit(lists, names(model.table, tuple(numbers)), numbers, settings)
    if found is None:
        return None, {"cases": int((lists.target >= 0).sum())}
    reranker, judged, gain = found
    before, after = ndcg(lists.ranks(lists.scores)), ndcg(judged)
    error = float(gain.std() / np.sqrt(len(gain)))
    used = settings.reranker is True or (gain.mean() > 2 * error and after >= before)
    facts = {"cases": len(gain), "before": before, "after": after, "likelier": float(gain.mean()), "error": error}
    return reranker if used else None, {**facts, "used": bool(used)}


def lists_of(model: Ensemble, cases: ValidationCases, encoded: Encoded | None = None) -> Lists:
    """The known items among the candidates of some cases, in what ships without a second stage."""
    width = min(CANDIDATES, len(cases.candidates))
    count = len(names(model.table, [""] * model.table.numbers.shape[1]))
    scores = np.full((len(cases), width), -np.inf, np.float32)
    rank, given = np.zeros(scores.shape, np.int64), np.zeros((*scores.shape, count), np.float32)
    target, lower_bound = np.full(len(cases), -1), np.zeros(len(cases), np.int64)
    for block in cases.blocks():
        log, allowed = cases.histories(block), ~cases.hidden(block)
        users = model.users(log, np.arange(log.n_users), encoded=of_some(encoded, block))
        table = model.lifted(model.scores_of(users, log), allowed)
        for user, every in enumerate(model.candidates(table, allowed, users, log)):
            slots = np.flatnonzero(~every.cold)
            case, size, found = block.start + user, len(slots), every.take(slots)
            if not size:
                continue
            scores[case, :size] = table[user, found.rows]
            rank[case, :size] = slots + 1
            histories, counted = [log.history(user)], model.table.counted
            (given[case, :size],) = features(model.table, found.rows[None], found.parts[None], histories, counted)
            place = np.flatnonzero(found.rows == cases.targets[case])
            target[case] = place[0] if len(place) else -1
        lower_bound[block] = rank_block(table, ~allowed, cases.targets[block])
    return Lists(scores, rank, given, target, lower_bound, cases.users)


class _Network(nn.Module):
    """Logits: the score times a scale, plus a linear map of the features, plus one hidden layer, both 0 at first."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.inner = nn.Linear(width, _HIDDEN)
        self.outer = nn.Linear(_HIDDEN, 1, bias=False)
        self.skip = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.skip.weight)

    def forward(self, scores: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        missing = scores.isinf()
        moved = self.skip(features) + self.outer(torch.relu(self.inner(features)))
        # Infinity times the scale would have no gradient.
        logits: torch.Tensor = self.scale * scores.masked_fill(missing, 0.0) + moved[..., 0]
        return logits.masked_fill(missing, -torch.inf)


def _train(network: _Network, scores: Array, features: Array, target: Array) -> None:
    given, wanted, read = _tensor(scores), torch.from_numpy(target.astype(np.int64)), _tensor(features)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    steps = _EPOCHS * -(-len(target) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(target)), _BATCH):
            kept = torch.rand(len(rows), 1, read.shape[2]) >= _DROPPED
            loss = F.cross_entropy(network(given[rows], read[rows] * kept), wanted[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def _log_likelihood(logits: Array, target: Array) -> Array:
    own = np.take_along_axis(logits, target[:, None], axis=1)[:, 0]
    result: Array = own - logsumexp(logits, axis=1)
    return result


def _tensor(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
