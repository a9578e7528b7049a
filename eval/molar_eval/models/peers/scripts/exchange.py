"""What a peer's script is told, and what it answers; NumPy alone, as it runs in another environment.

A script is started with a folder. It reads ``plan.json`` and the training log there, trains, asks for a judgement of
its validation scores as often as it likes, and then answers questions until nobody is left to ask. Items are rows of
the catalogue; a history is scored by a number for each of them, whatever it is for those without training interactions.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PLAN, VALIDATION, ANSWER = "plan.json", "validation.npy", "answer.npy"
Rows = npt.NDArray[np.int64]
Table = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Histories:
    """Histories, oldest interaction first: those of the users in training, or one for each case.

    Attributes:
        row: Whose each interaction is, in ascending order, shape (n,).
        item: Item rows, shape (n,).
        timestamp: Seconds since 1970; equal ones are in the order that the split goes by, shape (n,).
        asked_at: When each history is asked about, shape (n_histories,).
    """

    row: Rows
    item: Rows
    timestamp: Rows
    asked_at: Rows

    def __len__(self) -> int:
        return len(self.asked_at)

    def write(self, folder: Path, name: str) -> None:
        """Into one file."""
        np.savez(folder / f"{name}.npz", **vars(self))

    @classmethod
    def read(cls, folder: Path, name: str) -> "Histories":
        """What :meth:`write` wrote."""
        with np.load(folder / f"{name}.npz") as arrays:
            return cls(**arrays)


class Exchange:
    """A script's side. Whatever it and its libraries print goes into the log; it ends when nobody asks any more.

    Attributes:
        folder: Files of the script's own may lie here, say to go on with after it was killed.
        n_items: Items of the catalogue.
        seed: Of all that is random.
        options: The settings under test.
        training: What to fit on.
        validation: Whose scores :meth:`judged` judges.
    """

    def __init__(self, folder: Path) -> None:
        plan = json.loads((folder / PLAN).read_text("utf-8"))
        self.folder, self.n_items, self.seed = folder, int(plan["items"]), int(plan["seed"])
        self.options: dict[str, Any] = plan["options"]
        self.training, self.validation = (Histories.read(folder, name) for name in ("training", "validation"))
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def judged(self, scores: Table) -> float:
        """NDCG@10 of scores for the validation cases, shape (n_cases, n_items), by our metrics."""
        np.save(self.folder / VALIDATION, np.asarray(scores, np.float32))
        self._tell(judge=VALIDATION)
        return float(self._heard())

    def answer(self, score: Callable[[Histories], Table], **facts: Any) -> None:
        """Report the training, then score histories, shape (n_histories, n_items), as long as they are sent."""
        self._tell(facts=facts)
        while True:
            histories = Histories.read(self.folder, self._heard())
            np.save(self.folder / ANSWER, np.asarray(score(histories), np.float32))
            self._tell(answer=ANSWER)

    def _heard(self) -> str:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        return line.strip()

    def _tell(self, **message: Any) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()
