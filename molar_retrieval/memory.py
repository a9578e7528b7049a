"""How much memory each stage takes at its peak, by counts alone, and how much there is.

Bytes of one more interaction, person or item are measured (``bench/memory.py``; docs/scale.md has them with what they
are made of). The first figure of each stage is the process with its libraries.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from molar_retrieval.config import MolarSettings
from molar_retrieval.pages import words

LOG, FACTORS, FEATURES, TOWERS = "reading the log", "ALS", "conditioning", "the towers"
_WIDE, _NARROW, _LARGE = 128, 64, 500_000  # widths of the collaborative tower, see alignment/training.sized
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
        width: Of the collaborative towers together; 0: no tower is trained.
    """

    interactions: int
    people: int
    items: int
    factors: int = 64
    features: int = 768
    vector: int = 768
    width: int = _WIDE

    @classmethod
    def of(cls, settings: MolarSettings, interactions: int, people: int, items: int) -> Self:
        """Counts of a shop, and the rest by its settings; an item's content has as many blocks as may be."""
        align = settings.align
        width = align.ensemble * (align.dim or (_WIDE if interactions >= _LARGE else _NARROW))
        features = _BLOCKS * align.content_dims
        return cls(interactions, people, items, settings.cf.factors, features, width=width if align.towers else 0)


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


_STAGES: dict[str, Callable[[Sizes], float]] = {
    LOG: lambda n: 250e6 + 25 * n.interactions + 250 * n.people + 140 * n.items,
    FACTORS: lambda n: 190e6 + _factors(n),
    FEATURES: lambda n: 290e6 + _features(n),
    TOWERS: lambda n: 700e6 + _towers(n) if n.width else 0,
}


def peaks(sizes: Sizes) -> dict[str, int]:
    """Bytes of resident memory at the peak of each stage, in their order."""
    return {name: round(taken) for name, stage in _STAGES.items() if (taken := stage(sizes))}


def sentence(sizes: Sizes, there: int) -> str:
    """What the stages take, for people, on a machine with so many bytes; 0: nobody knows."""
    found = peaks(sizes)
    said = ", ".join(f"{name} {words.size(taken)}" for name, taken in found.items())
    said = f"Memory at the peak, but for counting and publishing, is about: {said}"
    return f"{said}; this machine has {words.size(there)}." if there else f"{said}."


def warning(sizes: Sizes, there: int) -> str | None:
    """What to say where a stage takes more than the machine has, which is known to have so many bytes; else None."""
    name, taken = max(peaks(sizes).items(), key=lambda one: one[1])
    if not there or taken <= there:
        return None
    return (
        f"{name} takes about {words.size(taken)} of memory at its peak, and this machine has {words.size(there)}: "
        "docs/scale.md says what takes how much, and what to do"
    )


def of_machine(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Bytes of memory that this machine has, or a container's share of it, and how many are free; 0: nobody says."""
    facts = dict(line.split()[:2] for line in _read(proc / "meminfo").splitlines())
    total, free = (1024 * int(facts.get(name, 0)) for name in ("MemTotal:", "MemAvailable:"))
    if not total and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read(groups / "memory.max").strip()
    if limit.isdigit() and 0 < int(limit) < total:
        used = _read(groups / "memory.current").strip()
        total, free = int(limit), min(free, int(limit) - int(used)) if used.isdigit() else free
    return total, free


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except OSError:
        return ""
