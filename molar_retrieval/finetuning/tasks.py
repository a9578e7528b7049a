"""The tasks of the paper as pairs of inputs that must find each other, and how well withheld items find theirs."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from PIL import Image

from molar_retrieval import rng
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.embedding.content_vectors import texts_and_photos
from molar_retrieval.embedding.pipeline import decode
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.finetuning.inputs import descriptions_of, phrases_of
from molar_retrieval.finetuning.report import NAMES, Name
from molar_retrieval.finetuning.withheld import WithheldCases, crossed, recall
from molar_retrieval.workspace.settings import FinetuneSettings
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

Encode = Callable[[Sequence[EncoderInput]], Matrix]
"""Vectors of some inputs, shape (n, dim), zeros where there is nothing to see."""
FEWEST = 10
"""Pairs, and withheld ones, without which a task teaches nothing, or nobody would know."""
MOST_WITHHELD = 256
"""Withheld items, and people who took one, that are asked about at most."""
_PHOTO, _ATTRIBUTES, _TEXT, _ITEM = range(4)
_VIEWS: Mapping[Name, int] = {"image_text": _PHOTO, "attributes": _ATTRIBUTES}
"""What of an item must find its title and description, by task."""
_LAST_ITEM = ((1, 1.0),)
_THREADS, _BLOCK = 8, 64
"""Threads that open photos, and photos that are open at the same time where withheld items are asked about."""
_LACKS = {
    "image_text": "items have a photo and a text",
    "attributes": "items have attributes and a text",
    "behaviour": "interactions follow one with another item by the same person",
}


class TaskData:
    """What an encoder that ``sees`` photos, or not, can learn from a catalogue and from who took what.

    Inputs are known by a code: ``4 * row + view``, where the view is a photo, attributes, title and description, or all
    that `molar embed` reads and sees of an item. Those that say the very same have the same code.

    Attributes:
        withheld: Rows of the items that only judge.
        whole: All interactions; None where there are none.
        log: The same without withheld items.
        pairs: By task: codes of what must find each other, shape (n, 2).
        left_out: By task: why it takes no part, or None.
        tasks: Those that do.
        broken: Rows of photos that could not be opened so far, and why.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        log: Interactions | None,
        settings: FinetuneSettings,
        *,
        sees: bool,
        learn: Mask | None = None,
    ) -> None:
        """Draw what is withheld; items that are not to ``learn`` from, shape (n_items,), take no part."""
        found = texts_and_photos(catalogue, range(len(catalogue)))
        self._texts, self.photos = ([found[row][part] for row in range(len(catalogue))] for part in (0, 1))
        self._described, self._double = descriptions_of(catalogue)
        holders, phrases = phrases_of(catalogue)
        own = [holders.indices[begin:end] for begin, end in pairwise(holders.indptr.tolist())]
        self._attributes = ["; ".join(phrases[n] for n in some) or None for some in own]
        self._folder, self._sees, self._seed = catalogue.folder, sees, settings.seed
        some = np.arange(len(self)) if learn is None else np.flatnonzero(learn)
        drawn = rng.generator(self._seed, "withheld items").permutation(some)
        self.withheld = np.sort(drawn[: min(MOST_WITHHELD, round(settings.withheld * len(some)))])
        self.learned = np.setdiff1d(some, self.withheld)
        self.whole, self.log = log, None if log is None else log.select(np.isin(log.item, self.learned))
        mask = np.isin(np.arange(len(self)), self.withheld)
        self._cases = WithheldCases.of(log, mask, self._seed, _LAST_ITEM, MOST_WITHHELD)
        held = np.flatnonzero(self._cases.histories[0].getnnz(axis=0))
        self._pool: Rows = np.union1d(self.withheld, held)
        self.pairs = {name: self._views(view) for name, view in _VIEWS.items()} | {"behaviour": self._next_items()}
        self.left_out = {name: self._why_not(name, settings) for name in NAMES}
        self.tasks = [name for name in NAMES if self.left_out[name] is None]
        self.broken: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def _having(self, view: int, rows: Rows) -> Rows:
        """Those of some items that have a photo or attributes, and a title or description to go with it."""
        views: Sequence[object] = self.photos if view == _PHOTO else self._attributes
        return np.array([row for row in rows.tolist() if self._described[row] is not None and views[row]], np.int64)

    def _views(self, view: int) -> Rows:
        rows = self._having(view, self.learned)
        own = self.photos if view == _PHOTO else self._attributes
        return np.stack([4 * _first_alike(own, rows) + view, 4 * _first_alike(self._described, rows) + _TEXT], axis=1)

    def _next_items(self) -> Rows:
        """Each interaction with the one before it, where these are two items."""
        if self.log is None or len(self.log) < 2:
            return np.zeros((0, 2), np.int64)
        pairs = np.stack([self.log.item[:-1], self.log.item[1:]], axis=1).astype(np.int64)
        user = self.log.user
        photos = self.photos if self._sees else [None] * len(self)
        there = np.array([bool(text or photo) for text, photo in zip(self._texts, photos, strict=True)])
        kept = (user[:-1] == user[1:]) & (pairs[:, 0] != pairs[:, 1]) & there[pairs].all(axis=1)
        found: Rows = 4 * pairs[kept] + _ITEM
        return found

    def _why_not(self, name: Name, settings: FinetuneSettings) -> str | None:
        if not getattr(settings, name):
            return "it is switched off"
        if name == "image_text" and not self._sees:
            return "the encoder does not see photos"
        if name == "behaviour" and self.log is None:
            return "there are no interactions"
        if (few := len(self.pairs[name])) < FEWEST:
            return f"only {few} {_LACKS[name]}"
        if name == "behaviour":
            few = len(self._cases)
            return None if few >= FEWEST else f"only {few} people took an item that was withheld to judge by"
        few, what = len(self._having(_VIEWS[name], self.withheld)), "a photo" if name == "image_text" else "attributes"
        return None if few >= FEWEST else f"only {few} of the items withheld to judge by have {what} and a text"

    def draw(self, name: Name, count: int) -> Rows:
        """So many pairs of a task, from passes over all of them in random orders, shape (count, 2)."""
        pairs = self.pairs[name]
        passes = range(-(-count // len(pairs)))
        orders = [rng.generator(self._seed, "examples", name, turn).permutation(len(pairs)) for turn in passes]
        found: Rows = pairs[np.concatenate(orders)[:count]]
        return found

    def inputs(self, codes: Sequence[int]) -> list[EncoderInput]:
        """The inputs of some codes, with their photos open."""
        places = [divmod(code, 4) for code in codes]
        images = self._open(row for row, view in places if view == _PHOTO or (view == _ITEM and self._sees))
        words = {_ATTRIBUTES: self._attributes, _TEXT: self._described, _ITEM: self._texts}
        texts = [words[view][row] if view in words else None for row, view in places]
        photos = [images.get(row) if view in (_PHOTO, _ITEM) else None for row, view in places]
        return [EncoderInput(text, photo) for text, photo in zip(texts, photos, strict=True)]

    def _open(self, rows: Iterable[int]) -> dict[int, Image.Image | None]:
        """The photos of some items; None where there is none that can be opened."""
        some = [row for row in dict.fromkeys(rows) if self.photos[row] is not None and row not in self.broken]
        with ThreadPoolExecutor(_THREADS, "molar-photos") as pool:
            opened = pool.map(lambda row: decode(self._folder, str(self.photos[row])), some)
            found = dict(zip(some, opened, strict=True))
        self.broken |= {row: reason for row, (_, reason) in found.items() if reason is not None}
        return {row: image for row, (image, _) in found.items()}

    @property
    def asked(self) -> int:
        """How many inputs :meth:`scores` encodes."""
        views = sum(2 * len(self._having(view, self.withheld)) for name, view in _VIEWS.items() if name in self.tasks)
        return views + (len(self._pool) if "behaviour" in self.tasks else 0)

    def scores(self, encode: Encode) -> dict[Name, float]:
        """By task: mean Recall@10 of texts by photos and back, Recall@10 by attributes, NDCG@10 of next items.

        Photos and attributes look for titles and descriptions among those of all withheld items; an item looks for the
        next one among the withheld items and those that come before them.
        """

        def vectors(rows: Rows, view: int) -> Matrix:
            codes = (4 * rows + view).tolist()
            blocks = [codes[begin : begin + _BLOCK] for begin in range(0, len(codes), _BLOCK)]
            return np.concatenate([encode(self.inputs(block)) for block in blocks])

        found: dict[Name, float] = {}
        for name in self.tasks:
            if name == "behaviour":
                items = vectors(self._pool, _ITEM)
                found[name] = float(self._cases.among(self._pool).gains(items, 0).mean())
                continue
            rows = self._having(_VIEWS[name], self.withheld)
            described, own = vectors(rows, _TEXT), vectors(rows, _VIEWS[name])
            places, double = np.arange(len(rows)), self._double[rows]
            if name == "image_text":
                found[name] = float(np.mean(crossed(described, own, places, double)))
            else:
                found[name] = recall(own, described, places, double)
        return found


def _first_alike(values: Sequence[Hashable], rows: Rows) -> Rows:
    """For each of some rows the first of them with the same value."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(values[row], row) for row in rows.tolist()], np.int64)
