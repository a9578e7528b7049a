"""How much memory each stage takes at its peak, by counts alone, and how much there is.

Bytes of one more interaction, person or item are measured (``bench/memory.py``; docs/scale.md has them with what they
are made of). The first figure of each stage is the process with its libraries.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from molar_retrieval.config import MolarSettings
from molar_retrieval.control_groups import GROUPS, PROC, memory_limits, read
from molar_retrieval.pages import words

LOG, FACTORS, FEATURES = "reading the log", "ALS", "conditioning"
COUNTING, TOWERS, PUBLISHING = "counting", "the towers", "publishing"
_WIDE, _NARROW, _LARGE = 128, 64, 500_000  # widths of the collaborative tower, see alignment/training.sized
_CONTENT, _NEIGHBOURS = 64, 256  # widths of the content tower and of content neighbours
WINDOW = 20  # places up to which pairs are counted
MOST_IN_A_MATRIX, OF_A_PERSON, ALWAYS_IN_ONE, MOST_PAIRS, SCANNED = 20_000, 50, 2_000, 1 << 26, 1 << 22
"""Items of which there are matrices, so many of a person but some always; pairs that are counted at once; numbers of
items that are scanned rather than turned towards users: as experts/linear, experts/taken and ranking/candidates say."""
_BLOCKS = 3  # of an item's content: words, photo, attributes


@dataclass(frozen=True)
class Sizes:
    """What memory depends on.

    Attributes:
        interactions: Of the log.
        people: Who have any.
        items: Of the catalogue.
        factors: Of ALS, for each person and item.
        features: Conditioned numbers of an item.
        vector: Numbers of an item's content vector, as the encoder makes them.
        width: Of the collaborative tower; 0: no tower is trained.
        partners: Strongest ones that an item keeps, at most, by each of the counting experts.
    """

    interactions: int
    people: int
    items: int
    factors: int = 64
    features: int = 768
    vector: int = 768
    width: int = _WIDE
    partners: int = 200

    @classmethod
    def of(cls, settings: MolarSettings, interactions: int, people: int, items: int) -> Self:
        """Counts of a shop, and the rest by its settings; an item's content has as many blocks as may be."""
        align = settings.align
        width = align.members * (align.dim or (_WIDE if interactions >= _LARGE else _NARROW))
        features = _BLOCKS * align.content_dims
        width = width if align.towers else 0
        return cls(interactions, people, items, settings.cf.factors, features, width=width, partners=align.partners)

    @property
    def pairs(self) -> float:
        """Of interactions that are 20 places apart at most, where everybody has as many of them."""
        mean = self.interactions / max(1, self.people)
        reach = min(max(0.0, mean - 1), WINDOW)
        return self.people * (reach * mean - reach * (reach + 1) / 2)

    @property
    def cells(self) -> float:
        """Pairs of items that these are of, about, as if all were as likely."""
        most = float(max(1, self.items) ** 2)
        return most * -math.expm1(-self.pairs / most)

    @property
    def kept(self) -> float:
        """Partners of an item, about, by one of the counting experts."""
        return min(self.partners, 2 * self.cells / max(1, self.items))


def _opened(n: Sizes) -> float:
    return 30 * n.interactions + 110 * n.people + 140 * n.items


def _factors(n: Sizes) -> float:
    return 31 * n.interactions + (140 + 8 * n.factors) * n.people + (220 + 8 * n.factors) * n.items


def _features(n: Sizes) -> float:
    """Vectors are mapped: their pages count, though the system takes them back where it needs them."""
    return max(_opened(n), 13 * n.interactions + 110 * n.people + (140 + 4 * n.features + 4 * n.vector) * n.items)


def _towers(n: Sizes) -> float:
    """The table of items has its gradient, two moments, and copies in checkpoints beside it."""
    of_item = 500 + 28 * n.width + 4 * n.features + 4 * n.factors
    return 20 * n.interactions + (110 + 4 * n.factors) * n.people + of_item * n.items


def _counting(n: Sizes) -> float:
    """The most that an expert takes, as matrices of items, as pairs, or in blocks; and the best weights so far."""
    known = min(n.items, n.interactions)
    if known <= min(MOST_IN_A_MATRIX, max(ALWAYS_IN_ONE, OF_A_PERSON * n.people)):
        taken = 12.0 * known**2 + 18 * n.cells
    else:
        taken = 0.8e9 if n.pairs > MOST_PAIRS else 30 * n.pairs
    neighbours = 36 * n.interactions + 16 * n.kept * n.items
    of_items = (140 + 4 * n.features + 24 * n.kept) * n.items
    return 42 * n.interactions + 110 * n.people + of_items + max(taken, neighbours)


def published_item(dense: int, others: int, partners: float, *, turned: bool) -> float:
    """Bytes that one more item takes while a generation is published, most of them pages of mapped files.

    It has ``dense`` numbers, once more where they are ``turned`` towards users, ``others`` in other vectors, and so
    many partners. A shard holds them twice while graphs are built, as they came in and as they stay.
    """
    stored = 4 * (dense * (1 + turned) + others) + 8 * partners + 300
    return 2 * stored + 4 * (dense + others) + 12 * partners + 2000


def _publishing(n: Sizes) -> float:
    dense = min(_NEIGHBOURS, n.features) + 1 + (n.width + _CONTENT if n.width else 0)
    turned = dense * n.items > SCANNED
    of_item = published_item(dense, n.features + n.factors, 2 * n.kept, turned=turned)
    return 480e6 + 30 * n.interactions + 110 * n.people + of_item * n.items


def _publishing_itself(n: Sizes) -> float:
    """The same without mapped files, whose pages the system takes back where it needs them; rather more than less."""
    of_item = 4 * (_NEIGHBOURS + n.width) + 2 * 20 * n.kept + 2000
    return min(_publishing(n), 480e6 + 30 * n.interactions + 110 * n.people + of_item * n.items)


_STAGES: dict[str, Callable[[Sizes], float]] = {
    LOG: lambda n: 250e6 + 25 * n.interactions + 250 * n.people + 140 * n.items,
    FACTORS: lambda n: 190e6 + _factors(n),
    FEATURES: lambda n: 290e6 + _features(n),
    COUNTING: lambda n: 210e6 + _counting(n),
    TOWERS: lambda n: 700e6 + _towers(n) if n.width else 0,
    PUBLISHING: _publishing,
}


def peaks(sizes: Sizes) -> dict[str, int]:
    """Bytes of resident memory at the peak of each stage, in their order."""
    return {name: round(taken) for name, stage in _STAGES.items() if (taken := stage(sizes))}


def sentence(sizes: Sizes, there: int) -> str:
    """What the stages take, for people, on a machine with so many bytes; 0: nobody knows."""
    found = peaks(sizes)
    said = ", ".join(f"{name} {words.size(taken)}" for name, taken in found.items())
    said = f"Memory at the peak is about: {said}"
    return f"{said}; this machine has {words.size(there)}." if there else f"{said}."


def warning(sizes: Sizes, there: int) -> str | None:
    """What to say where a stage takes more than the machine has, which is known to have so many bytes; else None."""
    needed = peaks(sizes) | {PUBLISHING: round(_publishing_itself(sizes))}
    name, taken = max(needed.items(), key=lambda one: one[1])
    if not there or taken <= there:
        return None
    return (
        f"{name} takes about {words.size(taken)} of memory at its peak, and this machine has {words.size(there)}: "
        "docs/scale.md says what takes how much, and what to do"
    )


def of_machine(proc: Path = PROC, groups: Path = GROUPS) -> tuple[int, int]:
    """Bytes of memory that this process may have, and how many of them are free; 0: nobody says.

    That is the machine's, or less where a container, a service or a job has a limit.
    """
    facts = dict(line.split()[:2] for line in read(proc / "meminfo").splitlines())
    total, free = (1024 * int(facts.get(name, 0)) for name in ("MemTotal:", "MemAvailable:"))
    if not total and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [(limit, max(0, limit - used)) for limit, used in memory_limits(proc, groups) if limit < total]
    for limit, left in limits:
        total, free = min(total, limit), min(free, left)
    return total, free
