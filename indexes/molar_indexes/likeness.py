"""How like an item is what somebody asks for in words, whatever comes beside it: the best of a list may be unlike it.

A cosine says little by itself: how near unrelated words come depends on the encoder, on photos beside the words, and on
the catalogue. So words for things of everyday life (``unrelated.toml``), most of which a shop does not have, are asked
first; how near each of them comes at best to any item is what chance reaches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molar_retrieval.workspace.config_files import read_toml

Vectors = npt.NDArray[np.floating]
_RARE = 1.645
"""Standard deviations above the median that one in twenty unrelated texts reaches, if they are normal."""
_BATCH = 65_536
_TENTH = 1.2816
"""As many below the median lies the lowest tenth."""


@dataclass(frozen=True)
class Likeness:
    """What cosines with the items mean.

    Attributes:
        chance: What unrelated words usually reach at best, which counts as 0.
        notable: What hardly any of them reach.
        own: What an item's own words reach, which counts as 1.
    """

    chance: float
    notable: float
    own: float

    @classmethod
    def of(cls, items: Vectors, asked: Vectors) -> "Likeness | None":
        """Measured by the vectors of all items and of unrelated words, shapes (n, dim) and (m, dim), unit length.

        What chance reaches is read off the lower half of the words, so that those which the shop does have count for
        little. None where the items have nothing that words come near to.
        """
        of_words = np.any(asked != 0, axis=0)  # an item's vector says more, as of its photo
        best, lengths = np.zeros(len(asked)), [np.zeros(0)]
        for start in range(0, len(items), _BATCH):
            some = np.asarray(items[start : start + _BATCH])
            best = np.maximum(best, (some @ asked.T).max(axis=0))
            lengths.append(np.linalg.norm(some[:, of_words], axis=1))
        worded = np.concatenate(lengths)
        if not worded.any():
            return None
        chance, low = float(np.median(best)), float(np.quantile(best, 0.1))
        own = float(np.median(worded[worded > 0]))
        notable = chance + _RARE * (chance - low) / _TENTH
        return cls(chance, notable, own) if notable < own else None

    def similarity(self, cosine: float) -> float:
        """From 0, what unrelated words reach, to 1, what the item's own words do."""
        return float(np.clip((cosine - self.chance) / (self.own - self.chance), 0.0, 1.0))


@cache
def unrelated() -> tuple[str, ...]:
    """Words for things of everyday life."""
    return tuple(read_toml(Path(__file__).with_name("unrelated.toml"))["texts"])


def measured(items: Vectors, encoded: Callable[[str], Vectors]) -> Likeness | None:
    """What cosines with the items mean, where ``encoded`` gives the vector of a text in their space."""
    return Likeness.of(items, np.stack([encoded(text) for text in unrelated()]))
