"""An item's words as a sparse vector, so that an index can rank by them: BM25 without a vocabulary.

Words are hashed to dimensions (Weinberger et al. 2009, arXiv 0902.2206), and everything that BM25 (Robertson and
Zaragoza 2009, doi:10.1561/1500000019) knows of the catalogue is multiplied into the items' side: a query is 1 at each
of its words. Scripts without blanks between words are cut into pairs of characters.
"""

import re
from array import array
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from scipy.sparse import csr_matrix

DIMENSIONS = 1 << 30
_SATURATION, _LENGTH = 1.2, 0.75
_SCRIPTS = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Thai, kana, Chinese: without blanks between words
_WORD = re.compile(rf"[{_SCRIPTS}]+|[^\W_{_SCRIPTS}]+")
_UNSPACED = re.compile(rf"[{_SCRIPTS}]")


def words(text: str) -> list[str]:
    """The words of a text in lower case, in their order."""
    found: list[str] = []
    for match in _WORD.findall(text.casefold()):
        if _UNSPACED.match(match) and len(match) > 1:
            found += [match[n : n + 2] for n in range(len(match) - 1)]
        else:
            found.append(match)
    return found


@lru_cache(maxsize=1 << 16)
def dimension(word: str) -> int:
    """Where a word stands."""
    return int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=4).digest(), "little") % DIMENSIONS


def query(text: str) -> tuple[list[int], list[float]]:
    """The dimensions of a text's words, ascending, each once, with 1 at each."""
    found = sorted({dimension(word) for word in words(text)})
    return found, [1.0] * len(found)


def counted(texts: Iterable[str | None], dimensions: int = DIMENSIONS) -> csr_matrix:
    """How often every text, or None, uses the words of each dimension, shape (n_texts, dimensions), float32."""
    places, ends = array("i"), array("q", [0])
    for text in texts:
        places.extend(dimension(word) % dimensions for word in words(text or ""))
        ends.append(len(places))
    ones = np.ones(len(places), np.float32)
    found = csr_matrix((ones, np.array(places, np.int32), np.array(ends)), shape=(len(ends) - 1, dimensions))
    found.sum_duplicates()
    return found


def bm25(texts: Iterable[str | None]) -> csr_matrix:
    """What every item's words weigh, by its text or None, shape (n_items, 2 ** 30), float32."""
    found = counted(texts)
    _, word, shared = np.unique(found.indices, return_inverse=True, return_counts=True)
    rarity = np.log1p((found.shape[0] - shared + 0.5) / (shared + 0.5))[word]
    lengths = np.asarray(found.sum(axis=1, dtype=np.float64)).ravel()
    relative = lengths / lengths.mean() if lengths.any() else lengths
    times = found.data.astype(np.float64)
    damped = times + _SATURATION * (1 - _LENGTH + _LENGTH * np.repeat(relative, np.diff(found.indptr)))
    found.data = (rarity * times * (_SATURATION + 1) / damped).astype(np.float32)
    return found
