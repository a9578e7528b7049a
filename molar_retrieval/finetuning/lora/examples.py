"""The examples of each step: drawn anew from the step's number, so that a run can go on anywhere."""

from collections.abc import Callable, Hashable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.finetuning.lora.items import Images, Photos, TrainingItems
from molar_retrieval.finetuning.lora.learner import Entry
from molar_retrieval.finetuning.report import NAMES, Name
from molar_retrieval.finetuning.withheld import WithheldCases
from molar_retrieval.workspace.settings import FinetuneSettings, LoraSettings
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

Reader = Callable[[EncoderInput], Entry]
"""What the encoder gets to read and see of an item."""
DECAY = 0.8
"""Weight that an item of a history loses per place."""
FEWEST = 10
"""Examples, and withheld ones, without which a task teaches nothing, or nobody would know."""
_VIEWS: Mapping[Name, str] = {"image_text": "photo", "attributes": "attributes"}
_LACKS = {
    "image_text": "items have a photo and a text",
    "attributes": "items have attributes and a text",
    "behaviour": "interactions follow others of the same person",
}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two views of items that must find each other; see :func:`molar_retrieval.models.towers.training.info_nce`.

    Both are places among the step's entries: photos or attributes to the left, titles and descriptions to the right.
    """

    left: Rows
    right: Rows
    blocked: Mask


@dataclass(frozen=True, eq=False)
class Histories:
    """Histories that must find the next item; see :func:`molar_retrieval.models.towers.training.next_item`.

    ``weights``, shape (b, entries), say how much each entry counts in each history; ``items`` are places of entries.
    """

    weights: Matrix
    items: Rows
    target: Rows
    log_q: npt.NDArray[np.float32]
    blocked: Mask


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a step, known by its number and that of the process, is made of: rows of items or interactions by task.

    A history, by its interaction, is the items before it, latest first, and its own.
    """

    number: tuple[int, int]
    rows: dict[Name, Rows]
    histories: dict[int, tuple[list[int], int]]
    images: Images


@dataclass(frozen=True, eq=False)
class Step:
    """What one step sees; an input that several tasks need is one of the entries, and goes through the model once.

    Answers are, by task, the place of an input, and what the model ought to write after it.
    """

    entries: list[Entry]
    pairs: dict[Name, Pairs]
    histories: Histories | None
    answers: dict[Name, list[tuple[int, str]]]


class _Entries:
    """Distinct inputs, in the order in which they came."""

    def __init__(self, read: Reader) -> None:
        self.found: list[Entry] = []
        self._read = read
        self._places: dict[Hashable, int | None] = {}

    def add(self, key: Hashable, item: EncoderInput) -> int | None:
        """The place of an input; None where the encoder would see nothing of it."""
        if key not in self._places:
            entry = self._read(item)
            self._places[key] = len(self.found) if entry else None
            self.found += [entry] if entry else []
        return self._places[key]


class ExampleSampler:
    """Draws the examples of each task that can be done, by an encoder that ``sees`` photos or not.

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
        self.pools: dict[Name, Rows] = {name: data.having(view, data.learned) for name, view in _VIEWS.items()}
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

    def withheld_pairs(self, name: Name) -> Rows:
        """Withheld items with both views of a task."""
        return self.data.having(_VIEWS[name], self.data.withheld)

    def draw(self, number: int, process: int = 0, processes: int = 1) -> Drawn:
        """What one step in one of the processes is made of; can be asked for ahead, in another thread."""
        rows = {name: self._rows(name, number * processes + process) for name in self.tasks}
        histories = self._histories(rows.get("behaviour", np.zeros(0, np.int64)))
        seen = set(rows["image_text"].tolist()) if "image_text" in rows else set()
        if self.sees:
            seen.update(item for history, target in histories.values() for item in [*history, target])
        return Drawn((number, process), rows, histories, self._photos.open(sorted(seen)))

    def build(self, drawn: Drawn, read: Reader) -> Step:
        """The inputs and questions of a step; ``read`` has a tokenizer, which is for one thread only."""
        entries = _Entries(read)
        pairs, answers = {}, {}
        for name in _VIEWS:
            if name in drawn.rows:
                random = rng.generator(self._seed, "masked attributes", *drawn.number)
                pairs[name], answers[name] = self._pairs(name, drawn, entries, random)
        built = self._next_items(drawn, entries) if drawn.histories else None
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
        self, name: Name, drawn: Drawn, entries: _Entries, random: np.random.Generator
    ) -> tuple[Pairs, list[tuple[int, str]]]:
        data = self.data
        kept: list[tuple[int, int, int]] = []
        asked: list[set[str]] = []
        for row in drawn.rows[name].tolist():
            hidden = random.random(len(data.phrases[row])) < self.lora.masked
            phrases: list[str] = []
            if name == "image_text":
                own = entries.add(("photo", row), EncoderInput(image=drawn.images[row]))
            else:
                phrases = [p for p, hide in zip(data.phrases[row], hidden, strict=True) if not hide]
                phrases = phrases or data.phrases[row][:1]
                own = entries.add(("attributes", *phrases), EncoderInput("; ".join(phrases)))
            other = entries.add(("told", int(data.double[row])), EncoderInput(data.described[row]))
            if own is not None and other is not None:
                kept.append((own, other, row))
                asked.append(set(phrases))
        left, right, rows = np.array(kept, np.int64).reshape(-1, 3).T
        double = data.double[rows]
        blocked = double[:, None] == double[None, :]
        if kept and name == "attributes":
            blocked |= np.array([[phrases <= set(data.phrases[row]) for row in rows] for phrases in asked])
        np.fill_diagonal(blocked, False)
        words = [(own, str(entries.found[other]["text"])) for own, other, _ in kept]
        return Pairs(left, right, blocked), words

    def _histories(self, positions: Rows) -> dict[int, tuple[list[int], int]]:
        log = self.data.log
        if log is None:
            return {}
        begin = log.offsets[np.searchsorted(log.offsets, positions, "right") - 1]
        return {
            at: (log.item[max(first, at - self.lora.history) : at][::-1].tolist(), int(log.item[at]))
            for at, first in zip(positions.tolist(), begin.tolist(), strict=True)
        }

    def _next_items(self, drawn: Drawn, entries: _Entries) -> Histories | None:
        data, log = self.data, self.data.log
        assert log is not None
        place: dict[int, int] = {}
        for item in sorted({item for history, target in drawn.histories.values() for item in [*history, target]}):
            found = entries.add(("item", item), EncoderInput(data.texts[item], drawn.images.get(item)))
            if found is not None:
                place[item] = found
        kept = {
            at: ([item for item in history if item in place], target)
            for at, (history, target) in drawn.histories.items()
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
        if not getattr(tasks, name):
            return "it is switched off"
        if name == "image_text" and not self.sees:
            return "the encoder does not see photos"
        if name == "behaviour" and self.data.log is None:
            return "there are no interactions"
        if (few := len(self.pools[name])) < FEWEST:
            return f"only {few} {_LACKS[name]}"
        if name == "behaviour":
            few = len(self.cases)
            return None if few >= FEWEST else f"only {few} people took an item that was withheld to judge by"
        few = len(self.withheld_pairs(name))
        return None if few >= FEWEST else f"only {few} of the items withheld to judge by have {_VIEWS[name]} and a text"


def predictable(data: TrainingItems, history: int) -> Rows:
    """Interactions whose item is none of the ``history`` before it, and there is one: their rows in the log."""
    log = data.log
    if log is None:
        return np.zeros(0, np.int64)
    place = np.arange(len(log)) - np.repeat(log.offsets[:-1], np.diff(log.offsets))
    new = place > 0
    for back in range(1, history + 1):
        same = np.zeros(len(log), bool)
        same[back:] = log.item[back:] == log.item[:-back]
        new &= ~(same & (place >= back))
    return np.flatnonzero(new)
