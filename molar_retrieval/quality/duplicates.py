"""Photos that several items share: byte for byte, or nearly.

Candidates for near duplicates are found without comparing all pairs: 256 bits are cut into 16 bands, and two
photos are compared where one band is equal (Manku, Jain and Das Sarma 2007, doi:10.1145/1242572.1242592). Up to 15
different bits no pair can be missed; bits are dealt to bands twice, so that hardly one in 10,000 of those with 24 is.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from molar_retrieval import rng
from molar_retrieval.quality.measure import BITS

Rows = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]

CLOSE = 24  # Bits of 256 by which two perceptual hashes of one picture may differ …
COLOURS = 14.0  # … and the mean difference of their colours (0 … 255)
ALIKE = 0.97  # Cosine of the vectors of two photos of one picture
_VECTOR_BITS = 28  # of 256, by which vectors with that cosine differ
_LOOSE = 72  # bits by which perceptual hashes may differ where vectors say that it is one picture
_BAND = 16
_DEALS = 2
_CROWD = 64  # in a band's crowd, each is compared with so many that follow it
_PAIRS = 1 << 20  # compared at once


def equal_groups(hashes: npt.NDArray[np.uint64]) -> list[Rows]:
    """Rows with equal hashes (shape (n, parts), zeros for none): groups of two or more, ordered by first row."""
    rows = np.flatnonzero(hashes.any(axis=1))
    if not len(rows):
        return []
    _, group, sizes = np.unique(hashes[rows], axis=0, return_inverse=True, return_counts=True)
    return _split(rows, group.ravel(), sizes)


def close_pairs(bits: Bits, most: int, seed: int = 0, *, versions: int = 1) -> tuple[Rows, Rows, npt.NDArray[np.int64]]:
    """Pairs of rows whose bits differ little: two arrays of rows, the first below the second, and the differences.

    Bits are packed, shape (n, 32), and ``most`` of them may differ. As many rows as there are ``versions`` follow one
    another that show one thing, the first as it is; these are not compared, nor are two of which none is a first.
    """
    found = [np.zeros(0, np.int64)]
    random = rng.generator(seed, "bands")
    for _ in range(_DEALS if len(bits) else 0):
        dealt = _dealt(bits, random.permutation(BITS))
        bands = dealt.view(np.uint16).reshape(len(bits), BITS // _BAND)
        for number in range(bands.shape[1]):
            for left, right in _neighbours(bands[:, number], dealt):
                if versions > 1:
                    first = (left % versions == 0) | (right % versions == 0)
                    strangers = first & (left // versions != right // versions)
                    left, right = left[strangers], right[strangers]
                near = differences(bits, left, right) <= most
                low, high = np.minimum(left[near], right[near]), np.maximum(left[near], right[near])
                found.append(low * len(bits) + high)
    both = np.unique(np.concatenate(found))
    left, right = np.divmod(both, max(len(bits), 1))
    return left, right, differences(bits, left, right)


def _dealt(bits: Bits, order: Rows) -> Bits:
    """The bits in another order, some rows at a time: unpacked they take eight times the memory."""
    parts = [
        np.packbits(np.unpackbits(bits[start : start + (_PAIRS >> 3)], axis=1)[:, order], axis=1)
        for start in range(0, len(bits), _PAIRS >> 3)
    ]
    return np.ascontiguousarray(np.concatenate(parts))


def _neighbours(band: npt.NDArray[np.uint16], bits: Bits) -> Iterator[tuple[Rows, Rows]]:
    """Pairs with equal bands, some at a time; in a crowd, those whose whole bits are next to each other in order."""
    whole = np.ascontiguousarray(bits).view(">u8")
    order = np.lexsort((whole[:, 1], whole[:, 0], band))
    ordered = band[order]
    ends = np.searchsorted(ordered, ordered, side="right")
    follow = np.minimum(ends - np.arange(len(order)) - 1, _CROWD)
    start = 0
    while start < len(order):
        stop = max(start + 1, int(np.searchsorted(np.cumsum(follow[start:]), _PAIRS)) + start)
        counts = follow[start:stop]
        first = np.repeat(np.arange(start, min(stop, len(order))), counts)
        step = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        yield order[first], order[first + step]
        start = stop


def differences(bits: Bits, left: Rows, right: Rows) -> npt.NDArray[np.int64]:
    """In how many bits the rows of pairs differ (as many as pairs)."""
    return _of_pairs(lambda a, b: np.bitwise_count(bits[a] ^ bits[b]).sum(axis=1, dtype=np.int64), left, right)


def _of_pairs(
    value: Callable[[Rows, Rows], npt.NDArray[Any]], left: Rows, right: Rows, size: int = _PAIRS
) -> npt.NDArray[Any]:
    starts = range(0, max(len(left), 1), size)
    return np.concatenate([value(left[start : start + size], right[start : start + size]) for start in starts])


def near_photos(
    bits: Bits, colours: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32] | None = None
) -> tuple[Rows, Rows, npt.NDArray[np.int64]]:
    """Pairs of photos that show nearly the same picture: recompressed, resized, brightened, cut a little closer.

    ``bits`` are hashes of each photo and of its middles, shape (n, 4, 32), ``colours`` of its fields, shape (n, 48);
    unit ``vectors`` of an encoder, shape (n, dim), find what was cut much closer. Returns two arrays of rows, the first
    below the second, and in how many bits of 256 they differ at best.
    """
    crops = bits.shape[1]
    left, right, _ = close_pairs(bits.reshape(-1, BITS // 8), CLOSE, versions=crops)
    pairs = [_ordered(left // crops, right // crops, len(bits))]
    if vectors is not None and len(bits):
        left, right, _ = close_pairs(vector_bits(vectors), _VECTOR_BITS)
        seen = vectors
        cosines = _of_pairs(lambda a, b: np.einsum("nd,nd->n", seen[a], seen[b]), left, right, 4096)
        left, right = left[cosines >= ALIKE], right[cosines >= ALIKE]
        near = _closest(bits, left, right) <= _LOOSE
        pairs.append(_ordered(left[near], right[near], len(bits)))
    both = np.unique(np.concatenate(pairs))
    left, right = np.divmod(both, max(len(bits), 1))
    same = (left != right) & (colour_difference(colours, left, right) <= COLOURS)
    left, right = left[same], right[same]
    return left, right, _closest(bits, left, right)


def _ordered(left: Rows, right: Rows, n: int) -> Rows:
    return np.minimum(left, right) * n + np.maximum(left, right)


def _closest(bits: Bits, left: Rows, right: Rows) -> npt.NDArray[np.int64]:
    """The least difference of one photo as it is to the other one or its middles."""
    flat, crops = bits.reshape(-1, bits.shape[2]), bits.shape[1]
    versions = [(0, 0), *((0, n) for n in range(1, crops)), *((n, 0) for n in range(1, crops))]
    found = [differences(flat, left * crops + mine, right * crops + other) for mine, other in versions]
    return np.asarray(np.min(found, axis=0))


def near_groups(left: Rows, right: Rows, n: int) -> list[Rows]:
    """Those of n rows that pairs connect, as groups ordered by their first row."""
    if not len(left):
        return []
    ones = np.ones(len(left), np.int8)
    _, label = connected_components(coo_matrix((ones, (left, right)), shape=(n, n)), directed=False)
    rows = np.unique(np.concatenate([left, right]))
    _, group, sizes = np.unique(label[rows], return_inverse=True, return_counts=True)
    return _split(rows, group, sizes)


def colour_difference(colours: npt.NDArray[np.uint8], left: Rows, right: Rows) -> npt.NDArray[np.float64]:
    """Mean absolute difference (0 … 255) of the colours of pairs, shape (n, 48), overall brightness left out."""

    def apart(left: Rows, right: Rows) -> npt.NDArray[Any]:
        steps = colours[left].astype(np.float32) - colours[right]
        return np.asarray(np.abs(steps - 0.7 * steps.mean(axis=1, keepdims=True)).mean(axis=1))

    return _of_pairs(apart, left, right)


def vector_bits(vectors: npt.NDArray[np.float32], seed: int = 0) -> Bits:
    """256 bits of which two vectors have the more in common the smaller their angle (Charikar 2002)."""
    directions = rng.generator(seed, "directions").standard_normal((vectors.shape[1], BITS), np.float32)
    middle = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    parts = [vectors[start : start + 8192] for start in range(0, len(vectors), 8192)]
    return np.concatenate([np.packbits((part - middle) @ directions > 0, axis=1) for part in parts])


def _split(rows: Rows, group: Rows, sizes: Rows) -> list[Rows]:
    order = np.argsort(group, kind="stable")
    parts = np.split(rows[order], np.cumsum(sizes)[:-1])
    return sorted((np.sort(part) for part in parts if len(part) > 1), key=lambda part: int(part[0]))
