"""How well withheld items are found, by the same measures as those of the fusion head, in a pool of bounded size."""

from collections.abc import Sequence

import numpy as np

from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.finetuning.lora.examples import ExampleSampler
from molar_retrieval.finetuning.lora.items import Photos
from molar_retrieval.finetuning.lora.learner import Learner, frozen_vectors
from molar_retrieval.finetuning.report import Name
from molar_retrieval.finetuning.withheld import crossed, recall
from molar_retrieval.workspace.tensors import Matrix, Rows

_BLOCK = 64
"""Photos that are open at the same time."""


class AdapterValidation:
    """Asks a model about withheld items.

    Photos and attributes look for titles and descriptions among those of all withheld items, and photos are looked for
    as well; histories look for the next item among the withheld ones and all that the histories hold.
    """

    def __init__(self, examples: ExampleSampler, photos: Photos) -> None:
        self._examples, self._photos = examples, photos
        self._rows = {name: examples.withheld_pairs(name) for name in examples.tasks if name != "behaviour"}
        held = np.flatnonzero(examples.cases.histories[0].getnnz(axis=0))
        self._pool: Rows = np.union1d(examples.data.withheld, held)

    @property
    def inputs(self) -> int:
        """How many go through the model."""
        two = 2 * sum(map(len, self._rows.values()))
        return two + (len(self._pool) if "behaviour" in self._examples.tasks else 0)

    def scores(self, learner: Learner, chunk: int) -> dict[Name, float]:
        """By task: mean Recall@10 of texts by photos and back, Recall@10 by attributes, NDCG@10 of next items."""
        data = self._examples.data
        found: dict[Name, float] = {}
        for name, rows in self._rows.items():
            described = self._vectors(learner, rows, [data.described[row] for row in rows], chunk)
            places, double = np.arange(len(rows)), data.double[rows]
            if name == "image_text":
                seen = self._vectors(learner, rows, None, chunk)
                found[name] = float(np.mean(crossed(described, seen, places, double)))
            else:
                named = self._vectors(learner, rows, ["; ".join(data.phrases[row]) for row in rows], chunk)
                found[name] = recall(named, described, places, double)
        if "behaviour" in self._examples.tasks:
            texts = [data.texts[row] for row in self._pool]
            whole = self._vectors(learner, self._pool, texts, chunk, photos=learner.sees)
            found["behaviour"] = float(self._examples.cases.among(self._pool).gains(whole, 0).mean())
        return found

    def _vectors(
        self, learner: Learner, rows: Rows, texts: Sequence[str | None] | None, chunk: int, *, photos: bool = False
    ) -> Matrix:
        """Vectors of texts, of photos, or of both; zeros where there is nothing to see, shape (n, dim)."""
        found = np.zeros((len(rows), learner.encoder.dim), np.float32)
        for begin in range(0, len(rows), _BLOCK):
            some = rows[begin : begin + _BLOCK].tolist()
            images = self._photos.open(some) if photos or texts is None else {}
            words = [None] * len(some) if texts is None else texts[begin : begin + _BLOCK]
            inputs = [EncoderInput(text, images.get(row)) for row, text in zip(some, words, strict=True)]
            entries = [learner.encoder.entry(one) for one in inputs]
            there = [n for n, entry in enumerate(entries) if entry]
            made = frozen_vectors(learner, [entries[n] for n in there], chunk)
            found[[begin + n for n in there]] = made.numpy()
        return found
