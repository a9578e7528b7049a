"""Words and attributes of items as numbers, without a vocabulary: places are hashes.

Feature hashing (Weinberger et al. 2009, arXiv 0902.2206) keeps dot products in expectation, and an item that comes
tomorrow with a value never seen before has its features at once. Words as a sparse vector let an index rank by BM25
(Robertson and Zaragoza 2009, doi:10.1561/1500000019): everything that it knows of the catalogue is multiplied into the
items' side, and a query is 1 at each of its words. Scripts without blanks between words are cut into pairs of
characters.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix, hstack

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.values import as_strings, doubles, is_list
from molar_retrieval.workspace import fingerprint

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


WIDTH = 1024
"""Places of attributes."""
WORDS = 4096
"""Places of words."""
_BATCH = 65_536


def hashed_features(catalogue: Catalogue) -> csr_matrix:
    """Features of each item: :func:`hashed_attributes`, then :func:`hashed_words`, shape (n_items, 5120)."""
    return csr_matrix(hstack([hashed_attributes(catalogue), hashed_words(catalogue)], format="csr"))


def features_digest(catalogue: Catalogue) -> str:
    """The fingerprint of the features of all items."""
    hashed = hashed_attributes(catalogue)
    arrays = [array.tobytes() for array in (hashed.indptr, hashed.indices, hashed.data)]
    return fingerprint.of_bytes([*arrays, *((text or "").encode() for text in _texts(catalogue))])


def hashed_words(catalogue: Catalogue) -> csr_matrix:
    """The words of each item's text, ``1 + log n`` for n times, rows of length 1 or 0, shape (n_items, 4096), float32.

    Of a language without blanks they are pairs of characters.
    """
    found = counted(_texts(catalogue), WORDS)
    found.data = 1 + np.log(found.data)
    length = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
    found.data /= np.repeat(length, np.diff(found.indptr)).astype(np.float32)
    return found


def hashed_attributes(catalogue: Catalogue) -> csr_matrix:
    """The attributes of all items, by their payload fields, shape (n_items, 1024), float32.

    A column weighs the same however many values an item has of it, as does each of them; case does not matter.
    """
    rows, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    values: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)]
    for begin, n, name, parents, found in _flat(catalogue, catalogue.attribute_fields):
        written = as_strings(found)
        own = parents[np.asarray(pc.is_valid(written))]
        encoded = written.drop_null().dictionary_encode()
        words = [f"{name}\0{value.casefold()}".encode() for value in encoded.dictionary.to_pylist()]
        hashes = np.frombuffer(b"".join(blake2b(word, digest_size=8).digest() for word in words), "<u8")
        chosen = hashes[np.asarray(encoded.indices)] if len(hashes) else hashes
        rows.append(begin + own)
        places.append((chosen % np.uint64(WIDTH)).astype(np.int64))
        sign = np.where(chosen >> np.uint64(63), np.float32(1), np.float32(-1))
        length = np.sqrt(np.bincount(own, minlength=n))[own]
        values.append((sign / length).astype(np.float32))
    coordinates = np.concatenate(rows), np.concatenate(places)
    return csr_matrix((np.concatenate(values), coordinates), shape=(len(catalogue), WIDTH))


def numeric_attributes(catalogue: Catalogue) -> dict[str, npt.NDArray[np.float64]]:
    """The numbers of all items by field, NaN where there is none, shape (n_items,); of several values the mean."""
    fields = [name for name, kind in catalogue.fields.items() if kind in ("integer", "float")]
    whole = {name: np.full(len(catalogue), np.nan) for name in fields}
    for begin, n, name, parents, found in _flat(catalogue, fields):
        present = np.asarray(pc.is_valid(found))
        numbers, rows = np.asarray(doubles(found.filter(present))), parents[present]
        counts = np.bincount(rows, minlength=n)
        own = slice(begin, begin + n)
        sums = np.bincount(rows, numbers, minlength=n)
        whole[name][own] = np.divide(sums, counts, out=whole[name][own], where=counts > 0)
    return whole


def _texts(catalogue: Catalogue) -> Iterator[str | None]:
    for batch in catalogue.batches(["text"], _BATCH):
        yield from batch.column(0).to_pylist()


def _flat(
    catalogue: Catalogue, columns: Sequence[str]
) -> Iterator[tuple[int, int, str, npt.NDArray[np.int64], pa.Array]]:
    """By batch and column: first row, number of rows, name, the row of each value, and the values."""
    begin = 0
    for batch in catalogue.batches(columns, _BATCH) if columns else ():
        for name, values in zip(columns, batch.columns, strict=True):
            parents = np.arange(len(values), dtype=np.int64)
            if is_list(values.type):
                parents, values = np.asarray(pc.list_parent_indices(values), np.int64), pc.list_flatten(values)
            yield begin, len(batch), name, parents, values
        begin += len(batch)
