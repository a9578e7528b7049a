"""What one step is made of, and what it becomes."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.finetuning.fit import Name
from molar_retrieval.finetuning.lora.items import Rows
from molar_retrieval.finetuning.lora.learner import Entry

Mask = npt.NDArray[np.bool_]
Reader = Callable[[EncoderInput], Entry]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two views of items that must find each other.

    Attributes:
        left: Places of photos or attributes among the step's entries, shape (b,).
        right: Places of titles and descriptions, shape (b,).
        blocked: See :func:`molar_retrieval.finetuning.lora.losses.info_nce`, shape (b, b).
    """

    left: Rows
    right: Rows
    blocked: Mask


@dataclass(frozen=True, eq=False)
class Histories:
    """Histories that must find the next item.

    Attributes:
        weights: How much each entry counts in each history, shape (b, entries).
        items: Places of the items to choose from, shape (m,).
        target: Which of these came next, shape (b,).
        log_q: Logarithm of each one's share of the interactions, shape (m,).
        blocked: Those that are no negatives, shape (b, m).
    """

    weights: npt.NDArray[np.float32]
    items: Rows
    target: Rows
    log_q: npt.NDArray[np.float32]
    blocked: Mask


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a step is made of.

    Attributes:
        number: Of the step, and of the process.
        rows: By task: items, or interactions.
        histories: By interaction: items before it, latest first, and its own.
        images: Photos of all items that need one.
    """

    number: tuple[int, int]
    rows: dict[Name, Rows]
    histories: dict[int, tuple[list[int], int]]
    images: dict[int, Image.Image | None]


@dataclass(frozen=True, eq=False)
class Step:
    """What one step sees; an input that several tasks need goes through the model once.

    Attributes:
        entries: Distinct inputs.
        pairs: By task.
        histories: Of the behaviour task.
        answers: By task: the place of an input, and what the model ought to write after it.
    """

    entries: list[Entry]
    pairs: dict[Name, Pairs]
    histories: Histories | None
    answers: dict[Name, list[tuple[int, str]]]


class Entries:
    """Distinct inputs.

    Args:
        read: What the encoder gets to read and see of an item.

    Attributes:
        found: In the order in which they came.
    """

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
