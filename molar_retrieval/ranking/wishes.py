"""What is asked of a ranking, and what it gives: for whom, what the list should be like, and the list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from molar_retrieval.expressions import Expression, OneOf
from molar_retrieval.index import SparseVector, Vector

if TYPE_CHECKING:
    from molar_retrieval.ranking.rules import Active

Rows = Sequence[int] | npt.NDArray[np.integer]
RERANK = "re-rank"
"""The addend of a score that the second stage makes."""
RULES = "rules"
"""The addend of a score that boosting, burying and freshness make."""


@dataclass(frozen=True, eq=False)
class Asker:
    """For whom a list is.

    Attributes:
        vector: Dense user vector.
        sparse: The sparse one beside it.
        history: Item rows, oldest first.
        products: Of the dense vector with those of all items, shape (n,), where they are known already.
    """

    vector: Vector
    sparse: SparseVector
    history: Rows = ()
    products: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Ruling:
    """What a shop's rules come to for somebody.

    Attributes:
        where: What ``require`` and ``ban`` demand of items, or None.
        banned: Items that ``ban`` names.
        words: Conditions on items that must not come either, of more words than a search should read every time.
        weighing: Rules that read what candidates are: ``boost``, ``bury``, ``fresh``, ``at_least``.
        caps: ``at_most``, of each field the strictest.
        pins: ``pin``.
    """

    where: Expression | None = None
    banned: frozenset[str] = frozenset()
    words: tuple[OneOf, ...] = ()
    weighing: "tuple[Active, ...]" = ()
    caps: "tuple[Active, ...]" = ()
    pins: "tuple[Active, ...]" = ()

    @property
    def limits(self) -> bool:
        """Whether they can leave a list short."""
        return self.where is not None or bool(self.banned or self.words or self.caps)


@dataclass(frozen=True)
class Wishes:
    """What a list should be like.

    Attributes:
        where: Condition on items, applied inside the search.
        hidden: Rows that must not come.
        diversity: Weight of unlikeness, 0 to 1.
        calibrate: Field whose mix in the history the list should have, or None.
        calibration: How much that counts, 0 to 1.
        rules: That hold for this user; the limits they set are in ``where`` and ``hidden`` already.
        rerank: Whether the second stage is asked.
        now: From when the age of what is fresh counts; None: from the moment of the answer.
    """

    where: Expression | None = None
    hidden: frozenset[int] = frozenset()
    diversity: float = 0.0
    calibrate: str | None = None
    calibration: float = 0.5
    rules: Ruling = Ruling()
    rerank: bool = True
    now: datetime | None = None

    @property
    def shape(self) -> bool:
        """Whether the list is more than the best of what may come."""
        shaping = self.rules.weighing or self.rules.caps or self.rules.pins
        return self.diversity > 0 or self.calibrate is not None or bool(shaping)


PLAIN = Wishes()
"""Nothing but the best."""


@dataclass(frozen=True, eq=False)
class Placed:
    """One place of a list.

    Attributes:
        row: The item's row.
        score: Sum of ``parts``.
        parts: Addends of the score, by name.
        by_score: Its place among the candidates by score alone, from 1.
        causes: Names of the rules, ``diversity`` or ``calibration`` that put it before higher scores.
    """

    row: int
    score: float
    parts: Mapping[str, float]
    by_score: int
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Listing:
    """A list and what could not be done.

    Attributes:
        places: Best first.
        notes: A sentence for each rule that could not be kept.
    """

    places: Sequence[Placed]
    notes: Sequence[str] = field(default_factory=list)
