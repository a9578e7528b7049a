"""SASRec as a baseline: ids only, next-item cross-entropy over all items (Klenitskiy and Vasilev 2023).

A killed run goes on after its last whole epoch.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from molar_eval.cases import Rows, Scores
from molar_eval.models.base import Kind, Task
from molar_eval.models.sasrec_network import SASRecNetwork, cross_entropy
from molar_eval.models.tuning import Fitted, Scoring, Setting, sample, tune, validation_ndcg
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


@dataclass(frozen=True)
class SASRecEpoch:
    """What one epoch brought: mean loss per interaction, validation NDCG@10, seconds with validation."""

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
    """Kang and McAuley 2018 (arXiv 1808.09781), trained until validation NDCG@10 stops rising.

    Its vocabulary is the items of the training log; others are left out of a history. Each run keeps a checkpoint
    under ``task.folder``, found again by data, settings, seed and code.
    """

    name: str = "SASRec"
    kind: Kind = "baseline"
    stochastic: bool = True

    def __init__(self, grid: Sequence[SASRecSettings] = (SASRecSettings(),)) -> None:
        self.grid: list[Setting] = [settings.model_dump() for settings in grid]
        self.settings: Mapping[str, Any] = {"grid": self.grid}

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> Fitted:
        """Train; validation chooses the epoch and the settings. DataError if nobody has two training interactions."""
        if not (np.diff(task.training.offsets) >= 2).any():
            raise DataError("SASRec: nobody has two training interactions", "check the split, or give more data")
        vocabulary = _Vocabulary(task.training)
        runs: list[list[SASRecEpoch]] = []

        def fit(setting: Setting) -> Scoring:
            scoring, epochs = _train(task, vocabulary, SASRecSettings(**setting), seed, progress)
            runs.append(epochs)
            return scoring

        fitted = tune(self.grid, fit, task, known_items(task.training))
        epochs = runs[self.grid.index(fitted.facts["chosen"])]
        trained = {
            "best_epoch": 1 + int(np.argmax([epoch.ndcg for epoch in epochs])),
            "epochs": [asdict(epoch) for epoch in epochs],
            "fit_seconds": sum(epoch.seconds for one in runs for epoch in one),
        }
        return replace(fitted, facts={**fitted.facts, **trained})


class _Vocabulary:
    """The items of a log, numbered anew without gaps."""

    def __init__(self, log: Interactions) -> None:
        known = known_items(log)
        self.rows = np.flatnonzero(known)
        self._number = np.cumsum(known, dtype=np.int32) - 1
        self._known, self._ids = known, IdMap(log.items.array.take(self.rows))

    def __call__(self, log: Interactions) -> Interactions:
        """The log with the known items alone, by their new numbers."""
        kept = log.select(self._known[log.item])
        return replace(kept, items=self._ids, item=self._number[kept.item])


def _train(
    task: Task, vocabulary: _Vocabulary, settings: SASRecSettings, seed: int, progress: Progress
) -> tuple[Scoring, list[SASRecEpoch]]:
    cases, known, run = sample(task.validation), known_items(task.training), _run(task, settings, seed)

    def scoring(network: SASRecNetwork) -> Scoring:
        def score(inputs: Interactions) -> Scores:
            users = encode(network, vocabulary(inputs), settings.history, settings.batch)
            items = network.items.weight.detach().float().cpu().numpy()
            scores = np.zeros((inputs.n_users, inputs.n_items), np.float32)
            scores[:, vocabulary.rows] = users @ items.T
            return scores

        return score

    def validate(network: SASRecNetwork) -> float:
        return validation_ndcg(Fitted(scoring(network), known, {}), task, cases)

    trainer = SASRecTrainer(vocabulary(task.training), settings, seed, run, validate)
    trainer.train(task.folder / f"sasrec-{run[:16]}", progress)
    return scoring(trainer.network.eval()), trainer.state.scores


def _run(task: Task, settings: SASRecSettings, seed: int) -> str:
    """Names a run: all that its weights depend on."""
    return fingerprint.of_json([settings.model_dump(), seed, task.digest, of_making(__name__)])
