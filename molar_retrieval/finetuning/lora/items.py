"""What the tasks read of a shop: words, photos, attributes and training interactions, without the withheld items."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from molar_retrieval import rng
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.embedding.content_vectors import texts_and_photos
from molar_retrieval.embedding.pipeline import decode
from molar_retrieval.finetuning.inputs import descriptions_of, phrases_of
from molar_retrieval.workspace.tensors import Mask, Rows

Images = dict[int, Image.Image | None]
"""Photos by the item's row; None where it has none that can be opened."""


@dataclass(eq=False)
class TrainingItems:
    """The items of a catalogue, and who took what."""

    folder: Path
    texts: list[str | None]  # what `molar embed` gives the encoder to read of each item
    photos: list[str | None]  # paths, relative to the folder
    described: list[str | None]  # title and description of each item
    double: Rows  # a number that items of the very same title and description share, shape (n,)
    phrases: list[list[str]]  # attributes of each item: "colour: red"
    learned: Rows  # items that teach, shape (l,)
    withheld: Rows  # items that only judge, shape (w,)
    whole: Interactions | None  # training interactions; None where there are none
    log: Interactions | None  # the same without withheld items
    broken: dict[int, str] = field(default_factory=dict)  # photos that could not be opened so far, and why

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def read(
        cls,
        catalogue: Catalogue,
        log: Interactions | None,
        share: float,
        most: int,
        seed: int,
        learn: Mask | None = None,
    ) -> Self:
        """Read a catalogue and draw the share of items, ``most`` at most, that is withheld, as the fusion head does.

        Items that are not to ``learn`` from, shape (n,), take no part; None: all do.
        """
        found = texts_and_photos(catalogue, range(len(catalogue)))
        texts, photos = ([found[row][n] for row in range(len(catalogue))] for n in (0, 1))
        described, double = descriptions_of(catalogue)
        holders, phrases = phrases_of(catalogue)
        borders = holders.indptr.tolist()
        own = [[phrases[n] for n in holders.indices[a:b]] for a, b in pairwise(borders)]
        some = np.arange(len(catalogue)) if learn is None else np.flatnonzero(learn)
        drawn = rng.generator(seed, "withheld items").permutation(some)
        withheld = np.sort(drawn[: min(most, round(share * len(some)))])
        learned = np.setdiff1d(some, withheld)
        left = None if log is None else log.select(np.isin(log.item, learned))
        return cls(catalogue.folder, texts, photos, described, double, own, learned, withheld, log, left)

    def having(self, view: str, rows: Rows) -> Rows:
        """Those of some items that have a ``photo`` or ``attributes``, and a title or description to go with it."""
        views: Sequence[object] = self.photos if view == "photo" else self.phrases
        return np.array([row for row in rows.tolist() if self.described[row] is not None and views[row]], np.int64)


class Photos:
    """Opens photos in a few threads; those that fail are left out and remembered."""

    def __init__(self, data: TrainingItems, pool: ThreadPoolExecutor) -> None:
        self._data, self._pool = data, pool

    def open(self, rows: Sequence[int]) -> Images:
        """The photos of some items."""
        return dict(zip(rows, self._pool.map(self._one, rows), strict=True))

    def _one(self, row: int) -> Image.Image | None:
        path = self._data.photos[row]
        if path is None or row in self._data.broken:
            return None
        image, reason = decode(self._data.folder, path)
        if reason is not None:
            self._data.broken[row] = reason
        return image
