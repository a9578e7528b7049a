"""A model for tests of ranking in shards that lies in files, or not; its workers load nothing heavy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval.data.interactions import Interactions


@dataclass
class Last:
    """Scores items by how far they are from the last one of a history, and by how often they were taken."""

    counts: np.ndarray
    files: Any = None
    facts: dict[str, Any] = field(default_factory=dict)

    def scores(self, inputs: Interactions) -> np.ndarray:
        last = np.array([(inputs.history(user)[-1:].tolist() or [0])[0] for user in range(inputs.n_users)])
        far = np.abs(np.arange(inputs.n_items)[None] - last[:, None])
        return (self.counts[None] - far).astype(np.float32)

    def finish(self, scores: np.ndarray, allowed: np.ndarray, inputs: Interactions) -> np.ndarray:
        scores[:, 3] += len(inputs)  # depends on the block
        return scores


@dataclass(frozen=True)
class LastFiles:
    """There is nothing to read but the log."""

    fingerprint: str = "last"
    folder: Path = Path("nothing")

    @contextmanager
    def opened(self, training: Interactions) -> Iterator[Last]:
        yield Last(np.bincount(training.item, minlength=training.n_items))


@dataclass
class Model:
    files: LastFiles | None = field(default_factory=LastFiles)
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = "last"
    kind: str = "ours"
    stochastic: bool = False
    fits: list[int] = field(default_factory=list)

    def fit(self, task: Any, seed: int, progress: Any = None) -> Last:
        self.fits.append(seed)
        return Last(np.bincount(task.training.item, minlength=task.training.n_items), self.files)
