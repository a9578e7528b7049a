"""SASRec as a baseline: ids only, next-item cross-entropy over all items (Klenitskiy and Vasilev 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from molar_eval.cases import Scores
from molar_eval.models.base import Kind, Task
from molar_eval.models.sasrec_network import SASRecNetwork
from molar_eval.models.sasrec_training import SASRecEpoch, SASRecSettings, SASRecTrainer, encode
from molar_eval.models.tuning import Fitted, Scoring, Setting, sample, tune, validation_ndcg
from molar_eval.modules import of_making
from molar_retrieval import fingerprint
from molar_retrieval.errors import DataError
from molar_retrieval.experts.histories import known_items
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.progress import SILENT, Progress


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
        """Train on ``task.training``; ``task.validation`` chooses the epoch and the settings.

        Raises:
            DataError: If nobody has two training interactions.
        """
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

    def __init__(self, log: InteractionLog) -> None:
        known = known_items(log)
        self.rows = np.flatnonzero(known)
        self._number = np.cumsum(known, dtype=np.int32) - 1
        self._known, self._ids = known, IdMap(log.items.array.take(self.rows))

    def __call__(self, log: InteractionLog) -> InteractionLog:
        """The log with the known items alone, by their new numbers."""
        kept = log.select(self._known[log.item])
        return replace(kept, items=self._ids, item=self._number[kept.item])


def _train(
    task: Task, vocabulary: _Vocabulary, settings: SASRecSettings, seed: int, progress: Progress
) -> tuple[Scoring, list[SASRecEpoch]]:
    cases, known, run = sample(task.validation), known_items(task.training), _run(task, settings, seed)

    def scoring(network: SASRecNetwork) -> Scoring:
        def score(inputs: InteractionLog) -> Scores:
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
    inputs, seen = task.validation.inputs(), task.validation.seen()
    logs = (task.training, inputs, seen)
    cases = [task.validation.offsets, task.validation.targets, task.candidates]
    arrays = [array for log in logs for array in (log.offsets, log.item)] + cases
    data = fingerprint.of_bytes(np.ascontiguousarray(array).tobytes() for array in arrays)
    return fingerprint.of_json([settings.model_dump(), seed, task.seen, data, of_making(__name__)])
