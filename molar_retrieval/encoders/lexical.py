"""Which words a text uses, as a short vector: latent semantic analysis (Deerwester et al. 1990) of hashed words.

A sentence encoder reads what a text means and blurs what it literally says: names of people, of series, of cuts. Words
are hashed to places (Weinberger et al. 2009, arXiv 0902.2206), rare ones weigh more, and the places are turned to their
principal axes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.data.text_features import counted
from molar_retrieval.encoders.fusion import unit

Array = npt.NDArray[np.float32]
PLACES = 8192
_FEWEST = 2  # texts that must share a word before it says anything of likeness
_FAINTEST = 1e-4  # strength of an axis, as a share of the strongest one, below which there is nothing on it


def counts(texts: Iterable[str | None]) -> csr_matrix:
    """How often each text uses the words of each place, damped to ``1 + log n``, shape (n_texts, 8192), float32."""
    found = counted(texts, PLACES)
    found.data = 1 + np.log(found.data)
    return found


@dataclass(frozen=True, eq=False)
class Lexical:
    """From counts of words to vectors."""

    rarity: Array  # weight of each place, shape (8192,)
    axes: Array  # from places to dimensions, shape (8192, d)
    mean: Array  # of the vectors that it was fitted on, shape (d,)

    @classmethod
    def none(cls) -> Self:
        """Words as they are written say nothing."""
        return cls(np.zeros(PLACES, np.float32), np.zeros((PLACES, 0), np.float32), np.zeros(0, np.float32))

    @classmethod
    def fit(cls, found: csr_matrix, keep: int) -> Self:
        """At most ``keep`` principal axes of some texts by their :func:`counts`."""
        from scipy.sparse.linalg import svds

        found = found[np.diff(found.indptr) > 0]
        held = np.bincount(found.indices, minlength=PLACES)
        rarity = np.where(held >= _FEWEST, np.log(max(1, found.shape[0]) / np.maximum(held, 1)), 0).astype(np.float32)
        weighted = _weighted(found, rarity)
        most = min(keep, found.shape[0] - 1)
        if most < 1 or not weighted.nnz:
            return cls.none()
        start = rng.generator(0, "lexical axes").random(min(weighted.shape)).astype(np.float32)
        _, strength, turned = svds(weighted, k=most, v0=start)
        axes = np.ascontiguousarray(turned[strength > _FAINTEST * strength.max()].T, np.float32)
        plain = cls(rarity, axes, np.zeros(axes.shape[1], np.float32))
        return cls(rarity, axes, plain(found).mean(axis=0))

    def __call__(self, found: csr_matrix) -> Array:
        """Vectors of texts by their counts: (n, 8192) → (n, d), rows of length 1, or 0 where no word is known."""
        turned = unit(np.asarray(_weighted(found, self.rarity) @ self.axes, np.float32))
        return np.where(turned.any(axis=1, keepdims=True), unit(turned - self.mean), np.float32(0))


def _weighted(found: csr_matrix, rarity: Array) -> csr_matrix:
    """Rows of length 1, rare words the longer."""
    weighted = csr_matrix((found.data * rarity[found.indices], found.indices, found.indptr), shape=found.shape)
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    weighted.data *= np.repeat(scale, np.diff(weighted.indptr))
    weighted.eliminate_zeros()
    return weighted
