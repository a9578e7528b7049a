"""What a peer's script is told, and what it answers; NumPy and pyarrow alone, as it runs in another environment.

A script is started with a folder. It reads ``plan.json`` and the training log there, trains, asks for a judgement of
its validation scores as often as it likes, and then answers questions until nobody is left to ask. Items are rows of
the catalogue; a history is scored by a number for each of them, whatever it is for those without training interactions.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

PLAN, CONTENT, VALIDATION, ANSWER = "plan.json", "content.npy", "validation.npy", "answer.npy"
Rows = npt.NDArray[np.int64]
Table = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PeerHistories:
    """Histories, oldest interaction first: those of the people in training, or one for each case.

    Attributes:
        row: Whose each interaction is, in ascending order, shape (n,).
        item: Item rows, shape (n,).
        timestamp: Seconds since 1970; equal ones are in the order that the split goes by, shape (n,).
        asked_at: When each history is asked about, shape (n_histories,).
        person: The row in training of whom each is asked about, -1 where that is not known, shape (n_histories,).
    """

    row: Rows
    item: Rows
    timestamp: Rows
    asked_at: Rows
    person: Rows

    def __len__(self) -> int:
        return len(self.asked_at)

    def write(self, folder: Path, name: str) -> None:
        """As two Parquet files."""
        interactions = pa.table({"row": self.row, "item": self.item, "timestamp": self.timestamp})
        pq.write_table(interactions, folder / f"{name}.parquet")
        pq.write_table(pa.table({"asked_at": self.asked_at, "person": self.person}), folder / f"{name}-asked.parquet")

    @classmethod
    def read(cls, folder: Path, name: str) -> "PeerHistories":
        """What :meth:`write` wrote."""
        interactions, asked = (pq.read_table(folder / f"{name}{more}.parquet") for more in ("", "-asked"))
        columns = {c: t[c].to_numpy() for t in (interactions, asked) for c in t.column_names}
        return cls(**columns)

    def of(self, row: int) -> Rows:
        """The items of one history."""
        begin, end = np.searchsorted(self.row, [row, row + 1])
        return self.item[begin:end]


class Exchange:
    """A script's side. Whatever it and its libraries print goes into the log; when nobody listens any more, it ends.

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
        self.training, self.validation = (PeerHistories.read(folder, name) for name in ("training", "validation"))
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._lines.put(line.strip())
        os._exit(0)

    @property
    def content(self) -> Table:
        """Content vectors of all items, shape (n_items, f); rows of length 1 or 0."""
        vectors: Table = np.load(self.folder / CONTENT)
        return vectors

    def judged(self, scores: Table) -> float:
        """NDCG@10 of scores for the validation cases, shape (n_cases, n_items), by our metrics."""
        np.save(self.folder / VALIDATION, np.asarray(scores, np.float32))
        self._tell(judge=VALIDATION)
        return float(self._lines.get())

    def answer(self, score: Callable[[PeerHistories], Table], **facts: Any) -> None:
        """Say what came of training, then score histories, shape (n_histories, n_items), as long as they are sent."""
        self._tell(facts=facts)
        while True:
            name = self._lines.get()
            np.save(self.folder / ANSWER, np.asarray(score(PeerHistories.read(self.folder, name)), np.float32))
            self._tell(answer=ANSWER)

    def _tell(self, **message: Any) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()
