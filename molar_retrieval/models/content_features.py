"""Spectral conditioning of frozen content vectors: what the content tower reads and ``content`` holds in an index.

Raw content vectors share a few dominant directions (cosines above .8 between any two items) that drown the rest.
Each block is centred, rotated into its principal axes and shrunk, ``x ↦ (x − μ) V / √(λ + λ̄)``, with λ the variance
along an axis and λ̄ the mean variance of the kept ones: strong axes come out near unit variance and weak ones faded,
between plain PCA and whitening (ACE, arXiv 2605.29322; WhitenRec, arXiv 2402.10602). It is one affine map per block,
so new items go through it as well.

What is said of an item is a block of its own beside them, as long as they are together: an encoder blurs what words
literally say, names of people, of series, of cuts, and reads attributes as a few words among many. Both are hashed,
rare words weigh more, and their common principal axes are kept (latent semantic analysis, Deerwester et al. 1990) and
shrunk alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags_array

from molar_retrieval import rng
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.text_features import WIDTH as ATTRIBUTE_PLACES
from molar_retrieval.data.text_features import hashed_features
from molar_retrieval.encoders.base import VectorBlock, unit
from molar_retrieval.workspace.tensors import Matrix, Outside

Moments = npt.NDArray[np.float64]
ATTRIBUTES, WORDS = "attributes", "words"
"""Names of the block of what is said: attributes alone, which it has beside vectors that know the words, and both."""
_SAID = (ATTRIBUTES, WORDS)
_CHUNK = 8192
_MOST = 1 << 26
"""Numbers that are held in memory."""
_ATTRIBUTES = 0.7
"""How long an item's attributes are beside its words."""
_FEWEST = 2
"""Items that must share a word before it says anything of likeness."""
_FAINTEST = 1e-4
"""Strength of an axis, as a share of the strongest one, below which there is nothing on it."""
_ROUNDS, _SPARE = 20, 64
"""Of iterating axes together, and how many more of them than are kept."""


@dataclass(frozen=True)
class Conditioner:
    """The affine map of each block, fitted on one catalogue: a mean (width,) and a map (width, kept).

    The block of what is said, where there is one, comes after those of the content vectors.
    """

    blocks: tuple[VectorBlock, ...]
    means: tuple[Matrix, ...]
    maps: tuple[Matrix, ...]

    @property
    def dim(self) -> int:
        """Length of a conditioned vector."""
        return sum(m.shape[1] for m in self.maps)

    @property
    def width(self) -> int:
        """Length of an encoder's vector."""
        return max((block.stop for block in self.blocks if block.name not in _SAID), default=0)

    @property
    def output_blocks(self) -> tuple[VectorBlock, ...]:
        """How the conditioned dimensions divide by source."""
        return VectorBlock.side_by_side((b.name, m.shape[1]) for b, m in zip(self.blocks, self.maps, strict=True))

    def __call__(self, vectors: Matrix, said: csr_matrix | None = None, *, folder: Path | None = None) -> Matrix:
        """Condition content vectors: (n, dim of the encoder) → (n, :attr:`dim`), rows of length 1 or 0.

        A missing block (all zeros) stays zero: it says nothing, which is not the same as saying the average. What is
        ``said``, :func:`molar_retrieval.data.text_features.hashed_features`, has shape (n, 5120); None: nothing is.
        Vectors are read in chunks, a memory map will do. What comes of many is mapped from a file in ``folder`` that
        has no name and ends with the array.
        """
        # No chunk is a short one: a product of few rows rounds in another way than one of many.
        borders = pairwise([*range(0, max(1, len(vectors) - _CHUNK + 1), _CHUNK), len(vectors)])
        parts = (self._conditioned(vectors[i:j], None if said is None else said[i:j]) for i, j in borders)
        if folder is not None and len(vectors) * self.dim > _MOST:
            found = Outside(folder, np.float32)
            for part in parts:
                found.append(part)
            return found.array().reshape(len(vectors), self.dim)
        return np.concatenate(list(parts))

    def _conditioned(self, vectors: Matrix, said: csr_matrix | None) -> Matrix:
        encoded = [np.zeros((len(vectors), 0), np.float32)]
        own = np.zeros((len(vectors), 0), np.float32)
        for block, mean, matrix in zip(self.blocks, self.means, self.maps, strict=True):
            if block.name in _SAID:
                width = len(mean)
                given = csr_matrix((len(vectors), width), dtype=np.float32) if said is None else said[:, :width]
                present = np.diff(given.indptr)[:, None] > 0
                own = unit(np.where(present, given @ matrix - mean @ matrix, np.float32(0)))
                if block.name == ATTRIBUTES:
                    own *= np.float32(max(1, len(encoded) - 1) ** -0.5)
            else:
                part = np.asarray(vectors[:, block.start : block.stop], np.float32)
                present = part.any(axis=1, keepdims=True)
                encoded.append(np.where(present, (part - mean) @ matrix, np.float32(0)))
        return unit(np.concatenate([unit(np.concatenate(encoded, axis=1)), own], axis=1))


def fit(
    vectors: Matrix,
    blocks: Sequence[VectorBlock],
    keep: int,
    said: csr_matrix | None = None,
    *,
    ready: bool = False,
) -> Conditioner:
    """Fit the map of each block on the items that have it, with ``keep`` axes at most.

    Vectors (n, dim) are read in chunks, a memory map will do. What is ``said`` (n, 5120) is
    :func:`molar_retrieval.data.text_features.hashed_features`; None or empty: there is no such block. Vectors that are
    ``ready``, conditioned and weighed as those of a fine-tuned encoder are, stay as they are; as they know the words,
    attributes alone stand beside them.
    """
    fitted = [_fit_block(vectors, block, keep, ready) for block in blocks]
    if said is not None and ready:
        said = said[:, :ATTRIBUTE_PLACES]
    if said is not None and said.nnz:
        dim = vectors.shape[1]
        blocks = [*blocks, VectorBlock(ATTRIBUTES if ready else WORDS, dim, dim + said.shape[1])]
        given = said[np.diff(said.indptr) > 0]
        fitted.append(_fit_attributes(given, keep) if ready else _fit_words(given, keep))
    return Conditioner(tuple(blocks), tuple(mean for mean, _ in fitted), tuple(matrix for _, matrix in fitted))


def _fit_attributes(given: csr_matrix, keep: int) -> tuple[Matrix, Matrix]:
    if given.shape[0] < given.shape[1]:
        return _map_of_few(given.toarray(), keep)
    second = (given.T @ given).toarray().astype(np.float64)
    return _map(given.shape[0], np.asarray(given.sum(axis=0), np.float64).ravel(), second, keep)


def _fit_words(given: csr_matrix, keep: int) -> tuple[Matrix, Matrix]:
    """Mean and map of attributes with words, by their strongest axes; shapes (5120,) and (5120, kept)."""
    count, width = given.shape
    weights = _weights(given)
    weighted = csr_matrix(given @ diags_array(weights))
    most = min(keep, count - 1)
    if most < 1 or not weighted.data.any():
        return np.zeros(width, np.float32), np.zeros((width, 1), np.float32)
    strength, turned = _strongest(weighted, most)
    found = np.flatnonzero(strength > _FAINTEST * strength.max())[::-1]
    strength, axes = strength[found].astype(np.float64), turned[found].T
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(len(found))] < 0, -1, 1)  # the sign is arbitrary
    mean = np.asarray(given.mean(axis=0), np.float64).ravel()
    variances = np.maximum(strength**2 / count - ((mean * weights) @ axes) ** 2, 0)
    matrix = weights[:, None] * axes / np.sqrt((variances + variances.mean() + 1e-12) * len(found))
    return mean.astype(np.float32), matrix.astype(np.float32)


def _strongest(weighted: csr_matrix, most: int) -> tuple[Matrix, Matrix]:
    """Singular values, ascending, shape (k,), and right singular vectors, shape (k, width), of the strongest axes.

    Where many are equal, as those of words that two items each have in common, ARPACK may break down (it goes from one
    vector); then all axes are iterated together (Halko, Martinsson and Tropp 2011, algorithm 4.4).
    """
    from scipy.sparse.linalg import ArpackError, svds

    random = rng.generator(0, "words")
    start = random.random(min(weighted.shape)).astype(np.float32)
    try:
        _, strength, turned = svds(weighted, k=most, v0=start, return_singular_vectors="vh", rng=random)
    except (np.linalg.LinAlgError, ArpackError):
        return _together(weighted, most, random)
    if np.isfinite(strength).all() and np.isfinite(turned).all():
        return strength, turned
    return _together(weighted, most, random)


def _together(weighted: csr_matrix, most: int, random: np.random.Generator) -> tuple[Matrix, Matrix]:
    width = weighted.shape[1]
    axes = random.standard_normal((width, min(most + _SPARE, *weighted.shape))).astype(np.float32)
    back = csr_matrix(weighted.T)
    for _ in range(_ROUNDS):
        axes, _ = np.linalg.qr(back @ (weighted @ axes))
    seen = weighted @ axes
    squares, turn = np.linalg.eigh((seen.T @ seen).astype(np.float64))
    strength = np.sqrt(np.maximum(squares[-most:], 0)).astype(np.float32)
    return strength, (axes @ turn[:, -most:].astype(np.float32)).T


def _weights(given: csr_matrix) -> Matrix:
    """Of each place: rare words weigh more; all attributes of an item come to .7 of its words, on average."""
    count, held = given.shape[0], np.bincount(given.indices, minlength=given.shape[1])
    weights = np.where(held >= _FEWEST, np.log(count / np.maximum(held, 1)), 0.0)
    weights[:ATTRIBUTE_PLACES] = 1.0
    squares = np.asarray(given.multiply(given).sum(axis=0), np.float64).ravel() * weights**2 / count
    for slots, share in ((slice(ATTRIBUTE_PLACES), _ATTRIBUTES), (slice(ATTRIBUTE_PLACES, None), 1.0)):
        if (length := np.sqrt(squares[slots].sum())) > 0:
            weights[slots] *= share / length
    return weights.astype(np.float32)


def words_alone(catalogue: Catalogue, keep: int) -> Matrix:
    """What is said of all items, without an encoder, shape (n_items, kept), rows of length 1 or 0."""
    said, nothing = hashed_features(catalogue), np.zeros((len(catalogue), 0), np.float32)
    return fit(nothing, (), keep, said)(nothing, said)


def _fit_block(vectors: Matrix, block: VectorBlock, keep: int, ready: bool) -> tuple[Matrix, Matrix]:
    width = block.stop - block.start
    if ready:
        return np.zeros(width, np.float32), np.eye(width, dtype=np.float32)
    if len(vectors) < width:
        return _map_of_few(np.asarray(vectors[:, block.start : block.stop], np.float32), keep)
    count, total, second = 0, np.zeros(width), np.zeros((width, width))
    for begin in range(0, len(vectors), _CHUNK):
        rows = np.asarray(vectors[begin : begin + _CHUNK, block.start : block.stop], np.float32)
        rows = rows[rows.any(axis=1)]
        count += len(rows)
        total += rows.sum(axis=0, dtype=np.float64)
        second += (rows.T @ rows).astype(np.float64)
    return _map(count, total, second, keep)


def _map(count: int, total: Moments, second: Moments, keep: int) -> tuple[Matrix, Matrix]:
    """Mean and map from the number of rows, their sum, shape (w,), and that of their squares, shape (w, w)."""
    if count < 2:
        return np.zeros(len(total), np.float32), np.zeros((len(total), 1), np.float32)
    mean = total / count
    variances, axes = np.linalg.eigh(second / count - np.outer(mean, mean))
    rank = int(min(keep, len(total), count - 1))
    return _scaled(mean, np.maximum(variances[::-1][:rank], 0), axes[:, ::-1][:, :rank])


def _map_of_few(rows: Matrix, keep: int) -> tuple[Matrix, Matrix]:
    """The same from fewer rows than they are wide, shape (n, w), by the products of two rows: n³ steps in place of w³.

    Rows of zeros are left out. What they all have in common has no axes of its own here.
    """
    rows = rows[rows.any(axis=1)].astype(np.float64)
    count, width = rows.shape
    if count < 2:
        return np.zeros(width, np.float32), np.zeros((width, 1), np.float32)
    mean = rows.mean(axis=0)
    rows -= mean
    rank = int(min(keep, count - 1))
    variances, turns = np.linalg.eigh(rows @ rows.T / count)
    variances, turns = np.maximum(variances[::-1][:rank], 0), turns[:, ::-1][:, :rank]
    lengths = np.sqrt(count * variances)
    axes = np.divide(rows.T @ turns, lengths, out=np.zeros((width, rank)), where=lengths > _FAINTEST * lengths.max())
    return _scaled(mean, variances, axes)


def _scaled(mean: Moments, variances: Moments, axes: Matrix) -> tuple[Matrix, Matrix]:
    """Mean and map of axes, shape (w, rank), so that the strong ones count less."""
    rank = len(variances)
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(rank)] < 0, -1, 1)  # the sign is arbitrary
    shrink = np.sqrt(1 / (variances + variances.mean() + 1e-12))
    return mean.astype(np.float32), (axes * shrink / np.sqrt(rank)).astype(np.float32)
