"""SASRec (Kang and McAuley 2018, arXiv 1808.09781): ids only, next-item cross-entropy over all items.

With the full cross-entropy it is that of Klenitskiy and Vasilev 2023 (arXiv 2309.07602). A killed run goes on after its
last whole epoch.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molar_eval.cases import Rows, Scores
from molar_eval.models.base import EvaluationTask, Fitted, Kind, Scoring, Setting, edges, sample, tune, validation_ndcg
from molar_eval.modules import of_making
from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.towers.batches import latest_windows, padded_rows
from molar_retrieval.models.towers.distributed import pick_device, pick_precision
from molar_retrieval.models.towers.trainer import Trainer, TrainingState
from molar_retrieval.models.towers.training import sampled_softmax
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import Settings

FULL_SOFTMAX_ITEMS = 20_000
"""Up to so many items the loss is over all of them, beyond over a sample."""
_INITIAL_STD = 0.02
_CHUNK_ELEMENTS = 1 << 19
Ladders = Mapping[str, Sequence[Any]]
LADDERS: Ladders = {
    "dropout": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "dim": (32, 64, 128, 256, 512),
    "learning_rate": (0.00025, 0.0005, 0.001, 0.002, 0.004),
}
"""What :class:`SASRecSearch` may choose of each setting, in order."""


class SASRecSettings(Settings):
    """Sizes and rates; the defaults are those of Klenitskiy and Vasilev 2023 (arXiv 2309.07602)."""

    dim: int = 64
    blocks: int = 2
    heads: int = 1
    history: int = 200
    dropout: float = 0.1
    learning_rate: float = 1e-3
    batch: int = 128
    epochs: int = 100
    patience: int = 10
    negatives: int = 4096
    precision: str = "auto"
    device: str = "auto"


START = SASRecSettings(epochs=200)
"""Where a search starts: the published settings, until validation has not risen for ten epochs."""


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


@dataclass(frozen=True)
class SASRecEpoch:
    """One epoch: mean loss per interaction, validation NDCG@10, seconds with validation."""

    loss: float
    ndcg: float
    seconds: float

    @property
    def value(self) -> float:
        """By which the best epoch is known."""
        return self.ndcg


class SASRecTrainer(Trainer[SASRecEpoch]):
    """Trains SASRec; a round is an epoch. With the same number of threads it ends with the same weights.

    The items of the log are the vocabulary, each of which occurs; ``validate`` gives the NDCG@10 of a network.
    """

    score_type = SASRecEpoch

    def __init__(
        self,
        log: Interactions,
        settings: SASRecSettings,
        seed: int,
        run: str,
        validate: Callable[[SASRecNetwork], float],
    ) -> None:
        self.log, self.settings, self.seed, self.validate = log, settings, seed, validate
        self.device = pick_device(settings.device)
        half = pick_precision(settings.precision, self.device) == "bfloat16"
        self.precision = torch.bfloat16 if half else torch.float32
        # The last item of a window is a target only.
        self.windows = latest_windows(log, np.flatnonzero(np.diff(log.offsets) >= 2), settings.history + 1)
        with torch.random.fork_rng():
            torch.manual_seed(rng.derive_seed(seed, "sasrec", "weights"))
            sizes = settings.model_dump(include={"dim", "blocks", "heads", "dropout"})
            self.network = SASRecNetwork(log.n_items, settings.history, **sizes).to(self.device)
        super().__init__(
            self.network.state_dict(),
            torch.optim.AdamW(self.network.parameters(), lr=settings.learning_rate, weight_decay=0.0, fused=True),
            TrainingState(run),
            rounds=settings.epochs if len(self.windows) else 0,
            patience=settings.patience,
            remedy="remove its folder",
        )

    def _round(self, progress: Progress) -> SASRecEpoch:
        began, number = time.perf_counter(), len(self.state.scores) + 1
        torch.manual_seed(rng.derive_seed(self.seed, "sasrec", "dropout", number))
        random = rng.generator(self.seed, "sasrec", "batches", number)
        batches = like_lengths(self.windows.length, self.settings.batch, random)
        targets = int((self.windows.length - 1).sum())
        progress.start(f"SASRec epoch {number}", targets)
        self.network.train()
        total = 0.0
        for chosen in batches:
            loss = self._loss(self.windows.start[chosen], self.windows.length[chosen] - 1, random)
            self.optimiser.zero_grad()
            # Batches differ in size, as histories in length: by its own mean, a target of a small one would weigh more.
            (loss * (len(batches) / targets)).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            total += float(loss.detach())
            progress.advance(int((self.windows.length[chosen] - 1).sum()))
        progress.finish()
        self.network.eval()
        return SASRecEpoch(total / targets, self.validate(self.network), time.perf_counter() - began)

    def _loss(self, start: Rows, length: Rows, random: np.random.Generator) -> Tensor:
        """Cross-entropy, summed over the targets of the histories that begin at ``start``."""
        rows, valid = padded_rows(start, length, int(length.max()))
        users = self.network(self._tensor(self.log.item[rows]))[torch.from_numpy(valid).to(self.device)]
        targets, items = self._tensor(self.log.item[rows[valid] + 1]), self.network.items.weight
        if self.log.n_items <= FULL_SOFTMAX_ITEMS:
            return cross_entropy(users, items, targets, self.precision)
        sampled = self._tensor(random.choice(self.log.n_items, self.settings.negatives, replace=False))
        users, next_ones = (vectors.to(self.precision) for vectors in (users, F.embedding(targets, items)))
        mean = sampled_softmax(users, next_ones, items[sampled], targets, sampled, self.log.n_items)
        return mean * len(targets)

    def _tensor(self, rows: npt.NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self.device)


def like_lengths(lengths: Rows, size: int, random: np.random.Generator) -> list[Rows]:
    """Windows of like length in batches of ``size``, in random order, so that hardly any padding is computed."""
    order = np.lexsort((random.permutation(len(lengths)), lengths)).astype(np.int64)
    batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
    return [batches[number] for number in random.permutation(len(batches))]


@torch.no_grad()
def encode(network: SASRecNetwork, log: Interactions, history: int, batch: int) -> npt.NDArray[np.float32]:
    """User vectors, shape (n_histories, dim), from the last ``history`` items of each; zero for an empty history."""
    device = network.items.weight.device
    windows = latest_windows(log, np.flatnonzero(np.diff(log.offsets)), history)
    result = np.zeros((log.n_users, network.items.embedding_dim), np.float32)
    order = np.argsort(windows.length, kind="stable")
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        rows, _ = padded_rows(windows.start[chosen], windows.length[chosen], int(windows.length[chosen].max()))
        users = network(torch.from_numpy(log.item[rows].astype(np.int64)).to(device))
        last = torch.from_numpy(windows.length[chosen] - 1).to(device)
        result[windows.user[chosen]] = users[torch.arange(len(chosen), device=device), last].float().cpu().numpy()
    return result


class SASRec:
    """SASRec, trained until validation NDCG@10 stops rising; validation chooses the epoch and the setting of the grid.

    Its vocabulary is the items of the training log; others are left out of a history. Each run keeps a checkpoint
    under ``data.folder``, found again by data, settings, seed and code.
    """

    name: str = "SASRec"
    kind: Kind = "baseline"
    stochastic: bool = True

    def __init__(self, grid: Sequence[SASRecSettings] = (SASRecSettings(),)) -> None:
        self.grid: list[Setting] = [settings.model_dump() for settings in grid]
        self.settings: Mapping[str, Any] = {"grid": self.grid}

    def fit(self, data: EvaluationTask, seed: int, progress: Progress = SILENT) -> Fitted:
        """Train each setting; DataError if nobody has two training interactions."""
        if not (np.diff(data.training.offsets) >= 2).any():
            raise DataError("SASRec: nobody has two training interactions", "check the split, or give more data")
        vocabulary, known, cases = Vocabulary(data.training), known_items(data.training), sample(data.validation)
        log = vocabulary(data.training)
        runs: list[list[SASRecEpoch]] = []

        def train(setting: Setting) -> Scoring:
            settings = SASRecSettings(**setting)

            def scoring(network: SASRecNetwork) -> Scoring:
                def score(inputs: Interactions) -> Scores:
                    users = encode(network, vocabulary(inputs), settings.history, settings.batch)
                    items = network.items.weight.detach().float().cpu().numpy()
                    scores = np.zeros((inputs.n_users, inputs.n_items), np.float32)
                    scores[:, vocabulary.rows] = users @ items.T
                    return scores

                return score

            def validate(network: SASRecNetwork) -> float:
                return validation_ndcg(Fitted(scoring(network), known, {}), data, cases)

            run = fingerprint.of_json([settings.model_dump(), seed, data.digest, of_making(__name__)])
            trainer = SASRecTrainer(log, settings, seed, run, validate)
            trainer.train(data.folder / f"sasrec-{run[:16]}", progress)
            runs.append(trainer.state.scores)
            return scoring(trainer.network.eval())

        fitted = tune(self.grid, train, data, known)
        epochs = runs[self.grid.index(fitted.facts["chosen"])]
        trained = {
            "best_epoch": 1 + int(np.argmax([epoch.ndcg for epoch in epochs])),
            "epochs": [asdict(epoch) for epoch in epochs],
            "fit_seconds": sum(epoch.seconds for one in runs for epoch in one),
        }
        return replace(fitted, facts={**fitted.facts, **trained})


class Vocabulary:
    """The items of a log, at ascending ``rows``, renumbered without gaps."""

    def __init__(self, log: Interactions) -> None:
        known = known_items(log)
        self.rows = np.flatnonzero(known)
        self._number = np.cumsum(known, dtype=np.int32) - 1
        self._known, self._ids = known, IdMap(log.items.array.take(self.rows))

    def __call__(self, log: Interactions) -> Interactions:
        """The log with the known items alone, by their new numbers."""
        kept = log.select(self._known[log.item])
        return replace(kept, items=self._ids, item=self._number[kept.item])


class SASRecSearch:
    """SASRec with settings found by hill climbing from the published ones, as long as validation rises.

    The first seed chooses for all: other seeds find its trainings in the folder of the data, and train what it chose.
    """

    name: str = "SASRec (searched)"
    kind: Kind = "baseline"
    stochastic: bool = True

    def __init__(self, start: SASRecSettings = START, ladders: Ladders = LADDERS) -> None:
        self.start, self.ladders = start, ladders
        self.settings: Mapping[str, Any] = {
            "start": start.model_dump(),
            "ladders": {key: list(values) for key, values in ladders.items()},
        }

    def fit(self, data: EvaluationTask, seed: int, progress: Progress = SILENT) -> Fitted:
        """Search, then train with the seed; DataError if nobody has two training interactions."""
        tried: list[dict[str, Any]] = []

        def judge(setting: Setting) -> float:
            facts = SASRec([SASRecSettings(**setting)]).fit(data, 0, progress).facts
            ndcg = float(facts["tried"][0]["ndcg@10"])
            tried.append({"setting": dict(setting), "ndcg@10": ndcg, "seconds": facts["fit_seconds"]})
            return ndcg

        chosen = climb(self.start.model_dump(), self.ladders, judge)
        fitted = SASRec([SASRecSettings(**chosen)]).fit(data, seed, progress)
        facts = {**fitted.facts, "tried": tried, "search_seconds": sum(one["seconds"] for one in tried)}
        at_edge = edges([{**chosen, key: value} for key, values in self.ladders.items() for value in values], chosen)
        return replace(fitted, facts={**facts, "edge_of_grid": at_edge} if at_edge else facts)


def climb(start: Setting, ladders: Ladders, judge: Callable[[Setting], float]) -> Setting:
    """The setting from which no step up or down a ladder raises what ``judge`` says; each is judged once."""
    known: dict[str, float] = {}

    def value(setting: Setting) -> float:
        name = fingerprint.of_json(dict(setting))
        if name not in known:
            known[name] = judge(setting)
        return known[name]

    value(start)
    best, before = start, None
    while best != before:
        before = best
        for key, values in ladders.items():
            for way in (1, -1):
                at = values.index(best[key]) + way
                while 0 <= at < len(values) and value(step := {**best, key: values[at]}) > value(best):
                    best, at = step, at + way
    return best
