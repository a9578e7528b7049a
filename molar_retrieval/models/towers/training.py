"""Training of the two towers: windows of histories, losses, steps, epochs, validation."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError
from molar_retrieval.models.als import ALSFactors
from molar_retrieval.models.blending import Dense, Gain, ScoreComponent, ranked
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.towers.batches import (
    Windows,
    collate,
    padded_rows,
    plan,
    training_batches,
    training_windows,
)
from molar_retrieval.models.towers.distributed import ALONE, Processes, autocast, pick_device, pick_precision, threads
from molar_retrieval.models.towers.network import START_SCALE, History, ItemEmbedding, TwoTowerNetwork, tower_shapes
from molar_retrieval.models.towers.trainer import Trainer, TrainingState, warm_cosine
from molar_retrieval.models.validation import ValidationCases, ndcg, recall, sample, withheld_items
from molar_retrieval.models.vectors import encode_users, item_sides
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.settings import AlignSettings
from molar_retrieval.workspace.tensors import Mask, Matrix, Ranks
from molar_retrieval.workspace.threads import keep_freed_memory

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


def info_nce(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Two views of each item, or user, find each other among those of the step, both ways.

    ``-½ · mean_u [log softmax_j(l_u · r_j / τ)_u + log softmax_j(r_u · l_j / τ)_u]``; with one view from content and
    one from interactions it is the user-level alignment of arXiv 2412.18176, section 3.4. The mean loss of a single
    one, which has nothing to be told from, is 0.

    Views have shape (b, d), float32, rows of length 1.
    """
    logits = left @ right.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


_CONTENT_WEIGHTS = (0.02, 0.1, 0.35, 1.0, 3.0)
"""What an epoch tries as the content tower's weight beside the ID tower's 1, so as to know the best epoch."""
_MOST_CASES = 10_000
"""How many validation cases an epoch is judged by."""
PROBED = 2
"""The epoch after which a tower may be spared."""
_WARM_UP_STEPS = 200
_LONGEST = 200
_LARGE = 500_000
_STEPS = 150


def sized(settings: AlignSettings, log: Interactions) -> AlignSettings:
    """The settings with every open size filled in.

    * ``max_history``: what holds 95 of 100 users whole, a multiple of 8, at most 200;
    * ``embedding_dim``: 128 from half a million training interactions, 64 below: a wide table learns little from few;
    * ``batch_tokens``: at least 150 steps an epoch, between 256 and 3,200 interactions each.
    """
    lengths = np.diff(log.offsets)
    lengths = lengths[lengths > 1]
    usual = float(np.quantile(lengths, 0.95)) if len(lengths) else 2
    filled = {
        "max_history": min(_LONGEST, max(8, -8 * int(-usual // 8))),
        "embedding_dim": 128 if len(log) >= _LARGE else 64,
        "batch_tokens": min(3200, max(256, len(log) // _STEPS)),
    }
    return settings.model_copy(update={k: v for k, v in filled.items() if getattr(settings, k) is None})


@dataclass(frozen=True)
class TrainingData:
    """All that training sees; ``features`` are conditioned content of all items, shape (n_items, f)."""

    log: Interactions
    cases: ValidationCases
    features: Matrix
    factors: ALSFactors

    @property
    def warm(self) -> Mask:
        """Whether an item has training interactions, shape (n_items,)."""
        return known_items(self.log)


def learned_until(log: Interactions) -> int | None:
    """When the last training interaction was, in seconds; a later training reads what came after it as new."""
    return int(log.timestamp.max()) if len(log) else None


@dataclass(frozen=True)
class EpochScore:
    """What one epoch, counted from 1, brought: validation included, by the towers' sum and by each tower alone.

    The loss is the mean per interaction, ``recall`` is Recall@10, all others are NDCG@10; ``processes`` trained.
    """

    epoch: int
    loss: float
    ndcg: float
    recall: float
    towers: dict[str, float]
    seconds: float
    pruned: dict[str, dict[str, float]] = field(default_factory=dict)  # what towers brought that are trained no more
    processes: int = 1

    @property
    def value(self) -> float:
        """By which the best epoch is known."""
        return self.ndcg


@dataclass(frozen=True)
class WarmStart:
    """Where training goes on from: a network that was trained before, and the windows of the log that it now reads."""

    network: TwoTowerNetwork
    windows: Windows


Probe = Callable[[Mapping[str, ScoreComponent]], Mapping[str, Gain]]
"""Which of the towers, by their parts of the score of all validation cases, bring nothing, and what they do bring."""


def train(
    data: TrainingData,
    settings: AlignSettings,
    folder: Path,
    run: str,
    *,
    onwards: WarmStart | None = None,
    probe: Probe | None = None,
    processes: Processes = ALONE,
    progress: Progress = SILENT,
    on_epoch: Callable[[EpochScore], None] = lambda _: None,
) -> tuple[TwoTowerNetwork, TrainingState[EpochScore]]:
    """Train until the validation score stops rising, continuing what an earlier process left in ``folder``.

    It begins with a fresh network and reads the whole log, or goes ``onwards``. Towers that the ``probe`` names after
    two epochs are trained no more, and the network comes without them; None: it would name none. All processes call
    this with the same arguments; ``run`` is the fingerprint of data and settings. ``on_epoch`` hears of each epoch's
    score once it is safe on disk. The first process gets the network with the weights of the best epoch, in evaluation
    mode, and the run's state.
    """
    if not settings.towers:
        return build_network(data, settings).eval(), TrainingState(run)
    keep_freed_memory()  # not before: of the large arrays of a log, pieces would be kept that nothing fits into
    with threads(settings.threads), torch.random.fork_rng():
        trainer = TowerTrainer(data, settings, run, processes, onwards, probe)
        trainer.train(folder, progress, on_epoch)
        return trainer.network.pruned().eval(), trainer.state


def train_rounds(
    data: TrainingData, settings: AlignSettings, folder: Path, run: str, processes: Processes
) -> Iterator[list[EpochScore]]:
    """The same by one of several processes of which none asks a probe, an epoch at a time: yields the scores so far.

    The weights are left in ``folder``, where :func:`ask_probe` and :func:`trained` find them.
    """
    keep_freed_memory()
    with threads(settings.threads), torch.random.fork_rng():
        yield from TowerTrainer(data, settings, run, processes).each_round(folder)


def ask_probe(data: TrainingData, settings: AlignSettings, folder: Path, run: str, probe: Probe) -> None:
    """Ask after the epochs that others have trained, if it is time, and leave the answer to those that go on."""
    with threads(settings.threads), torch.random.fork_rng():
        trainer = TowerTrainer(data, settings, run, probe=probe)
        trainer.resume(folder)
        if len(trainer.state.scores) == PROBED:
            score = trainer.state.scores.pop()
            trainer.state.scores.append(replace(score, pruned=trainer.probed()))
            trainer.save(judged=True)


def trained(
    data: TrainingData, settings: AlignSettings, folder: Path, run: str
) -> tuple[TwoTowerNetwork, TrainingState[EpochScore]]:
    """What others have left in ``folder`` at the end, as :func:`train` returns it; DataError where it is not there."""
    with torch.random.fork_rng():
        trainer = TowerTrainer(data, settings, run)
        trainer.resume(folder)
        if not trainer.done:
            raise DataError(
                f"the last epoch that was trained is not to be seen in {folder}",
                "have the workspace on storage that this machine and all workers have under the same path",
            )
        trainer.train(folder)
        return trainer.network.pruned().eval(), trainer.state


def tower_parts(network: TwoTowerNetwork, data: TrainingData, precision: str) -> dict[str, ScoreComponent]:
    """The towers as parts of the score of the validation cases."""
    users = encode_users(network, data.cases.histories(), np.arange(len(data.cases)), precision=precision)
    items = item_sides(network, data.warm)
    return {name: Dense(users[name], items[name]) for name in users}


def judged(data: TrainingData, settings: AlignSettings) -> TrainingData:
    """The same with as many of the validation cases as an epoch is judged by."""
    return replace(data, cases=sample(data.cases, _MOST_CASES, rng.generator(settings.seed, "judged")))


def validate(network: TwoTowerNetwork, data: TrainingData, precision: str) -> dict[str, Ranks]:
    """Ranks of the validation targets by each tower alone and, as ``towers``, by their best sum of a few."""
    parts = tower_parts(network, data, precision)
    weightings = [{name: 1.0} for name in parts]
    if len(parts) > 1:
        weightings += [{"id_tower": 1.0, "content_tower": weight} for weight in _CONTENT_WEIGHTS]
    found = ranked(data.cases, parts, weightings)
    return {**dict(zip(parts, found, strict=False)), "towers": max(found, key=ndcg)}


class TowerTrainer(Trainer[EpochScore]):
    """Trains the towers; a round is an epoch, a pass over the training windows."""

    score_type = EpochScore

    def __init__(
        self,
        data: TrainingData,
        settings: AlignSettings,
        run: str,
        processes: Processes = ALONE,
        onwards: WarmStart | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.data, self.settings, self.probe = data, settings, probe
        self.validation = judged(data, settings)
        given = processes.several and settings.device == "auto"
        self.device = processes.device if given else pick_device(settings.device)
        self.precision = pick_precision(settings.precision, self.device)
        torch.manual_seed(rng.derive_seed(settings.seed, "network"))
        self.network = (build_network(data, settings) if onwards is None else onwards.network).to(self.device)
        self.user_factors = torch.from_numpy(data.factors.users)
        if settings.max_history is None or settings.batch_tokens is None:
            raise ValueError("the sizes are open; see sized")
        self.windows = training_windows(data.log, settings.max_history) if onwards is None else onwards.windows
        self.batch_tokens = max(1, settings.batch_tokens // processes.count)  # a step is that of all of them
        steps = len(processes.share(plan(self.windows.length - 1, self.batch_tokens)))
        self.steps = steps * settings.epochs
        withheld = withheld_items(data.warm, settings.seed)
        self.withheld = torch.from_numpy(withheld).to(self.device)
        self.pools = {"id_tower": np.flatnonzero(data.warm), "content_tower": np.flatnonzero(data.warm & ~withheld)}
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        super().__init__(
            self.network.state_dict(),
            optimiser,
            TrainingState(run),
            rounds=settings.epochs,
            patience=settings.patience,
            remedy="run `molar align --restart`",
            processes=processes,
        )

    def _round(self, progress: Progress) -> EpochScore | None:
        began, number = time.perf_counter(), len(self.state.scores) + 1
        seed, other = self.settings.seed, [self.processes.index] * (not self.processes.first)
        torch.manual_seed(rng.derive_seed(seed, "dropout", number, *other))
        random = rng.generator(seed, "batches", number)
        batches = self.processes.share(training_batches(self.data.log, self.windows, self.batch_tokens, random))
        if other:
            random = rng.generator(seed, "negatives", number, *other)
        progress.start(f"epoch {number}", sum(int((windows.length - 1).sum()) for windows in batches))
        self.network.train()
        total, count = torch.zeros(()), 0
        for windows in batches:
            interactions = int((windows.length - 1).sum())
            total += self.step(windows, random) * interactions
            count += interactions
            progress.advance(interactions)
        progress.finish()
        if not self.processes.first:
            return None
        found = validate(self.network, self.validation, self.precision)
        together = found.pop("towers")
        seconds = time.perf_counter() - began
        return EpochScore(
            epoch=number,
            loss=float(total) / max(1, count),
            ndcg=ndcg(together),
            recall=recall(together),
            towers={name: ndcg(rank) for name, rank in found.items()},
            seconds=seconds,
            pruned=self.probed() if number == PROBED else {},
            processes=self.processes.count,
        )

    def probed(self) -> dict[str, dict[str, float]]:
        """What towers bring that the probe names."""
        if self.probe is None:
            return {}
        parts = tower_parts(self.network, self.data, self.precision)
        return {name: asdict(gain) for name, gain in self.probe(parts).items()}

    def round(self, progress: Progress = SILENT) -> EpochScore:
        """See :class:`Trainer`; what was spared before is left out, also in a process that goes on after a kill."""
        self._prune()
        return super().round(progress)

    def train(
        self, folder: Path, progress: Progress = SILENT, on_score: Callable[[EpochScore], None] = lambda _: None
    ) -> EpochScore | None:
        """See :class:`Trainer`."""
        best = super().train(folder, progress, on_score)
        self._prune()
        return best

    def _prune(self) -> None:
        for name in {name for score in self.state.scores for name in score.pruned}:
            self.network.drop(name)

    def step(self, windows: Windows, random: np.random.Generator) -> Tensor:
        """One step of the optimiser over some windows; the mean loss per interaction."""
        loss = self._loss(windows, random)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        warm_up = min(_WARM_UP_STEPS, max(1, self.steps // 10))
        self.update(self.settings.learning_rate * warm_cosine(self.state.step, self.steps, warm_up))
        return loss.detach().cpu()

    def _loss(self, windows: Windows, random: np.random.Generator) -> Tensor:
        network, log = self.network, self.data.log
        history = collate(log, windows.start, windows.length - 1, self.device)
        rows, valid = padded_rows(windows.start + 1, windows.length - 1, history.items.shape[1])
        targets = self._to_device(log.item[rows].reshape(-1))
        counts = torch.from_numpy(valid.reshape(-1)).to(self.device)
        with autocast(self.device, self.precision):
            loss = torch.zeros((), device=self.device)
            for name in network.shapes:
                own, states = self._next_item(name, history, targets, counts, random)
                loss = loss + own
                if name == "content_tower" and self.settings.alignment_weight:
                    loss = loss + self.settings.alignment_weight * self._alignment(windows, states, history.lengths)
        return loss

    def _next_item(
        self, name: str, history: History, targets: Tensor, counts: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """The cross-entropy of one tower, summed over the members of an ensemble, and its user vectors.

        The content tower is not asked about withheld items. All item vectors of a step are made at once, as that is
        cheaper for a map of content.
        """
        pool = self.pools[name]
        if name == "content_tower":
            counts = counts & ~self.withheld[targets]
        chosen = random.choice(pool, min(self.settings.n_negatives, len(pool)), replace=False)
        sampled, read = self._to_device(chosen), history.items.reshape(-1)
        rows = torch.cat([read, targets, sampled])
        had, next_ones, others = self.network.items[name](rows).split([len(read), len(targets), len(sampled)])
        states: Tensor = self.network.towers[name](had.view(*history.items.shape, -1), history.gaps)
        if not len(pool):
            return states.sum() * 0, states  # with a gradient, of zeros
        shares = (t.chunk(self.network.shapes[name].members, -1) for t in (states.flatten(0, 1), next_ones, others))
        members = zip(*shares, strict=True)
        losses = [sampled_softmax(u, v, w, targets, sampled, len(pool), counts) for u, v, w in members]
        return torch.stack(losses).sum(), states

    def _alignment(self, windows: Windows, content: Tensor, lengths: Tensor) -> Tensor:
        """The contrastive loss between content user vectors and ALS user factors, for whole histories."""
        whole = torch.from_numpy(np.flatnonzero(windows.last)).to(self.device)
        if not len(whole):
            return content.new_zeros(())
        view = F.normalize(content[whole, lengths[whole] - 1].float(), dim=-1)
        factors = self.user_factors[torch.from_numpy(windows.user[windows.last])].to(self.device)
        other = F.normalize(self.network.project_factors(factors).float(), dim=-1)
        return info_nce(view, other, self.settings.alignment_temperature)

    def _to_device(self, rows: npt.NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self.device)


def build_network(data: TrainingData, settings: AlignSettings) -> TwoTowerNetwork:
    """A fresh network for the data: random weights, but for the item table of the ID tower.

    The first half of its columns starts from the ALS factors, the second from content, as vectors of language models
    start a table in Boz et al. 2024 (arXiv 2402.01339); columns that are left stay random.
    """
    features = torch.from_numpy(np.ascontiguousarray(data.features, np.float32))
    network = TwoTowerNetwork(tower_shapes(settings), data.log.n_items, features, data.factors.users.shape[1])
    side = network.items["id_tower"] if "id_tower" in network.shapes else None
    if isinstance(side, ItemEmbedding):
        shape = network.shapes["id_tower"]
        half = shape.member.dim // 2
        factors = torch.from_numpy(_principal(data.factors.items[data.warm], half))
        content = torch.from_numpy(_principal(data.features, shape.member.dim - half))
        with torch.no_grad():
            for own in side.weight.chunk(shape.members, -1):
                own[torch.from_numpy(data.warm), : factors.shape[1]] = factors
                own[:, half : half + content.shape[1]] = content
    return network


def _principal(factors: Matrix, dim: int) -> Matrix:
    """Factors, or features, in at most ``dim`` principal directions, scaled as the random start is."""
    if factors.shape[1] > dim:
        _, axes = np.linalg.eigh(factors.T @ factors)
        factors = factors @ axes[:, ::-1][:, :dim]
    return factors * (START_SCALE / max(1e-12, float(np.sqrt((factors**2).mean()))))
