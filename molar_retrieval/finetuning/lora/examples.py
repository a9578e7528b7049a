"""The examples of each step: drawn anew from the step's number, so that a run can go on anywhere."""

from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from typing import Self

import numpy as np
from PIL import Image

from molar_retrieval import rng
from molar_retrieval.config import FinetuneSettings, LoraSettings
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.finetuning.fit import NAMES, Name
from molar_retrieval.finetuning.lora.items import Photos, Rows, TrainingItems
from molar_retrieval.finetuning.lora.step import Drawn, Entries, Histories, Pairs, Reader, Step
from molar_retrieval.finetuning.trial import WithheldCases
from molar_retrieval.interactions import InteractionLog

DECAY = 0.8
"""Weight that an item of a history loses per place."""
FEWEST = 10
"""Examples, and withheld ones, without which a task teaches nothing, or nobody would know."""
_VIEWS: Mapping[Name, str] = {"image_text": "photo", "attributes": "attributes"}


class ExampleSampler:
    """Draws the examples of each task that can be done.

    Args:
        data: What there is.
        photos: Opens photos.
        tasks: Which tasks, and the seed.
        lora: Sizes.
        sees: Whether the encoder looks at photos.

    Attributes:
        left_out: By task: why it takes no part, or None.
        tasks: Those that do.
        cases: People who took a withheld item.
    """

    def __init__(
        self, data: TrainingItems, photos: Photos, tasks: FinetuneSettings, lora: LoraSettings, *, sees: bool
    ) -> None:
        self.data, self.lora, self.sees = data, lora, sees
        self._photos, self._seed = photos, tasks.seed
        learn = np.setdiff1d(np.arange(len(data)), data.withheld)
        self.pools: dict[Name, Rows] = {
            name: np.array([row for row in learn.tolist() if data.has(row, view)], np.int64)
            for name, view in _VIEWS.items()
        }
        self.pools["behaviour"] = predictable(data, lora.history)
        mask = np.isin(np.arange(len(data)), data.withheld)
        self.cases = WithheldCases.of(data.whole, mask, tasks.seed, [(lora.history, DECAY)], lora.validation)
        self.left_out = {name: self._why_not(name, tasks) for name in NAMES}
        self.tasks = [name for name in NAMES if self.left_out[name] is None]
        taken = np.bincount([] if data.log is None else data.log.item, minlength=len(data))
        self._log_q = np.log(np.maximum(taken, 1) / max(1, taken.sum())).astype(np.float32)
        self._drawn = lru_cache(len(NAMES))(self._permuted)

    def resized(self, batch: int) -> Self:
        """The same with another number of examples of each task in a step."""
        other = copy(self)
        other.lora = self.lora.model_copy(update={"batch": batch})
        return other

    def draw(self, number: int, process: int = 0, processes: int = 1) -> Drawn:
        """What one step in one of the processes is made of; can be asked for ahead, in another thread."""
        rows = {name: self._rows(name, number * processes + process) for name in self.tasks}
        histories = self._histories(rows.get("behaviour", np.zeros(0, np.int64)))
        seen = set(rows["image_text"].tolist()) if "image_text" in rows else set()
        if self.sees:
            seen.update(item for history, target in histories.values() for item in [*history, target])
        return Drawn((number, process), rows, histories, self._photos.open(sorted(seen)))

    def build(self, drawn: Drawn, read: Reader) -> Step:
        """The inputs and questions of a step.

        Args:
            drawn: What it is made of.
            read: What the encoder gets to read and see of an item; its tokenizer is for one thread only.
        """
        entries = Entries(read)
        pairs, answers = {}, {}
        for name in _VIEWS:
            if name in drawn.rows:
                random = rng.generator(self._seed, "masked attributes", *drawn.number)
                pairs[name], answers[name] = self._pairs(name, drawn.rows[name], drawn.images, entries, random)
        built = self._next_items(drawn.histories, drawn.images, entries) if drawn.histories else None
        return Step(entries.found, pairs, built, answers)

    def _rows(self, name: Name, number: int) -> Rows:
        """The task's ``number``-th batch, from passes over its pool in random orders."""
        pool, size = self.pools[name], self.lora.batch
        turns, places = np.divmod(np.arange(number * size, (number + 1) * size), len(pool))
        found = [self._drawn(name, int(turn))[places[turns == turn]] for turn in np.unique(turns)]
        return np.unique(np.concatenate(found))

    def _permuted(self, name: Name, turn: int) -> Rows:
        return rng.generator(self._seed, "examples", name, turn).permutation(self.pools[name])

    def _pairs(
        self,
        name: Name,
        rows: Rows,
        images: Mapping[int, Image.Image | None],
        entries: Entries,
        random: np.random.Generator,
    ) -> tuple[Pairs, list[tuple[int, str]]]:
        data, left, right = self.data, [], []
        kept: list[int] = []
        asked: list[set[str]] = []
        for row in rows.tolist():
            told = data.told[row]
            hidden = random.random(len(data.phrases[row])) < self.lora.masked
            if name == "image_text":
                own = entries.add(("photo", row), EncoderInput(image=images[row]))
            else:
                phrases = [p for p, hide in zip(data.phrases[row], hidden, strict=True) if not hide]
                phrases = phrases or data.phrases[row][:1]
                own = entries.add(("attributes", *phrases), EncoderInput("; ".join(phrases)))
                asked.append(set(phrases))
            other = entries.add(("told", int(data.double[row])), EncoderInput(told))
            if own is None or other is None:
                asked = asked[: len(kept)]
                continue
            left.append(own)
            right.append(other)
            kept.append(row)
        double = data.double[kept]
        blocked = double[:, None] == double[None, :]
        if asked:
            blocked |= np.array([[phrases <= set(data.phrases[row]) for row in kept] for phrases in asked])
        np.fill_diagonal(blocked, False)
        words = [(place, str(entries.found[other]["text"])) for place, other in zip(left, right, strict=True)]
        return Pairs(np.array(left, np.int64), np.array(right, np.int64), blocked), words

    def _histories(self, positions: Rows) -> dict[int, tuple[list[int], int]]:
        """Items before each interaction, latest first, and its own."""
        log = self.data.log
        if log is None:
            return {}
        begin = log.offsets[np.searchsorted(log.offsets, positions, "right") - 1]
        return {
            at: (log.item[max(first, at - self.lora.history) : at][::-1].tolist(), int(log.item[at]))
            for at, first in zip(positions.tolist(), begin.tolist(), strict=True)
        }

    def _next_items(
        self,
        histories: Mapping[int, tuple[list[int], int]],
        images: Mapping[int, Image.Image | None],
        entries: Entries,
    ) -> Histories | None:
        data, log = self.data, self.data.log
        assert log is not None
        place: dict[int, int] = {}
        for item in sorted({item for history, target in histories.values() for item in [*history, target]}):
            found = entries.add(("item", item), EncoderInput(data.texts[item], images.get(item)))
            if found is not None:
                place[item] = found
        kept = {
            at: ([item for item in history if item in place], target)
            for at, (history, target) in histories.items()
            if target in place and any(item in place for item in history)
        }
        if not kept:
            return None
        items = np.array(sorted(place), np.int64)
        weights = np.zeros((len(kept), len(entries.found)), np.float32)
        blocked = np.zeros((len(kept), len(items)), bool)
        for number, (at, (history, target)) in enumerate(kept.items()):
            for age, item in enumerate(history):
                weights[number, place[item]] += DECAY**age
            own = log.history(int(np.searchsorted(log.offsets, at, "right")) - 1)
            same = (data.double[items] == data.double[target]) & (data.double[target] >= 0)
            blocked[number] = (same | np.isin(items, own)) & (items != target)
        next_ones = np.searchsorted(items, [target for _, target in kept.values()])
        places = np.array([place[item] for item in items.tolist()], np.int64)
        return Histories(weights, places, next_ones, self._log_q[items], blocked)

    def _why_not(self, name: Name, tasks: FinetuneSettings) -> str | None:
        """Why a task cannot take part, or None."""
        data = self.data
        if not getattr(tasks, name):
            return "it is switched off"
        if name == "image_text" and not self.sees:
            return "the encoder does not see photos"
        if name == "behaviour" and data.log is None:
            return "there are no interactions"
        few = len(self.pools[name])
        what = {
            "image_text": "items have a photo and a text",
            "attributes": "items have attributes and a text",
            "behaviour": "interactions follow others of the same person",
        }
        if few < FEWEST:
            return f"only {few} {what[name]}"
        if name == "behaviour":
            few = len(self.cases)
            return None if few >= FEWEST else f"only {few} people took an item that was withheld to judge by"
        few = len(self.judged(name))
        has = _VIEWS[name]
        return None if few >= FEWEST else f"only {few} of the items withheld to judge by have {has} and a text"

    def judged(self, name: Name) -> Rows:
        """Withheld items with both views of a task."""
        return np.array([row for row in self.data.withheld.tolist() if self.data.has(row, _VIEWS[name])], np.int64)


def predictable(data: TrainingItems, history: int) -> Rows:
    """Interactions whose item is none of the ``history`` before it, and there is one: their rows in the log."""
    log: InteractionLog | None = data.log
    if log is None:
        return np.zeros(0, np.int64)
    place = np.arange(len(log)) - np.repeat(log.offsets[:-1], np.diff(log.offsets))
    new = place > 0
    for back in range(1, history + 1):
        same = np.zeros(len(log), bool)
        same[back:] = log.item[back:] == log.item[:-back]
        new &= ~(same & (place >= back))
    return np.flatnonzero(new)
