"""Spectral conditioning of frozen content vectors: what the content tower reads and ``content`` holds in an index.

Raw content vectors share a few dominant directions (cosines above .8 between any two items) that drown the rest.
Each block is centred, rotated into its principal axes and shrunk, ``x ↦ (x − μ) V / √(λ + λ̄)``, with λ the variance
along an axis and λ̄ the mean variance of the kept ones: strong axes come out near unit variance and weak ones faded,
between plain PCA and whitening (ACE, arXiv 2605.29322; WhitenRec, arXiv 2402.10602). It is one affine map per block,
so new items go through it as well.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_retrieval.encoders.base import Block

Matrix = npt.NDArray[np.float32]
_CHUNK = 8192


@dataclass(frozen=True)
class Conditioner:
    """The affine map of each block, fitted on one catalogue.

    Attributes:
        blocks: Dimensions of the content vectors by source.
        means: One mean per block, shape (width,).
        maps: One map per block, shape (width, kept).
    """

    blocks: tuple[Block, ...]
    means: tuple[Matrix, ...]
    maps: tuple[Matrix, ...]

    @property
    def dim(self) -> int:
        """Length of a conditioned vector."""
        return sum(m.shape[1] for m in self.maps)

    @property
    def output_blocks(self) -> tuple[Block, ...]:
        """How the conditioned dimensions divide by source."""
        ends = np.cumsum([m.shape[1] for m in self.maps]).tolist()
        return tuple(
            Block(b.name, end - m.shape[1], end) for b, m, end in zip(self.blocks, self.maps, ends, strict=True)
        )

    def __call__(self, vectors: Matrix) -> Matrix:
        """Condition content vectors: (n, dim of the encoder) → (n, :attr:`dim`), rows of length 1 or 0.

        A missing block (all zeros) stays zero: it says nothing, which is not the same as saying the average.
        """
        parts = []
        for block, mean, matrix in zip(self.blocks, self.means, self.maps, strict=True):
            part = np.asarray(vectors[:, block.start : block.stop], np.float32)
            present = part.any(axis=1, keepdims=True)
            parts.append(np.where(present, (part - mean) @ matrix, np.float32(0)))
        joined = np.concatenate(parts, axis=1)
        norm = np.linalg.norm(joined, axis=1, keepdims=True)
        return (joined / np.where(norm > 0, norm, 1)).astype(np.float32)


def fit(vectors: Matrix, blocks: Sequence[Block], keep: int) -> Conditioner:
    """Fit the map of each block on the items that have it.

    Args:
        vectors: Content vectors of the catalogue, shape (n, dim); read in chunks, a memory map will do.
        blocks: Their blocks; blocks of one name and source are conditioned apart.
        keep: Most axes kept of each block.
    """
    fitted = [_fit_block(vectors, block, keep) for block in blocks]
    return Conditioner(tuple(blocks), tuple(mean for mean, _ in fitted), tuple(matrix for _, matrix in fitted))


def _fit_block(vectors: Matrix, block: Block, keep: int) -> tuple[Matrix, Matrix]:
    width = block.stop - block.start
    count, total, second = 0, np.zeros(width), np.zeros((width, width))
    for part in _present(vectors, block):
        count += len(part)
        total += part.sum(axis=0, dtype=np.float64)
        second += (part.T @ part).astype(np.float64)
    if count < 2:
        return np.zeros(width, np.float32), np.zeros((width, 1), np.float32)
    mean = total / count
    variances, axes = np.linalg.eigh(second / count - np.outer(mean, mean))
    rank = int(min(keep, width, count - 1))
    variances, axes = np.maximum(variances[::-1][:rank], 0), axes[:, ::-1][:, :rank]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(rank)] < 0, -1, 1)  # the sign is arbitrary
    shrink = np.sqrt(1 / (variances + variances.mean() + 1e-12))
    return mean.astype(np.float32), (axes * shrink / np.sqrt(rank)).astype(np.float32)


def _present(vectors: Matrix, block: Block) -> Iterator[Matrix]:
    for begin in range(0, len(vectors), _CHUNK):
        part = np.asarray(vectors[begin : begin + _CHUNK, block.start : block.stop], np.float32)
        yield part[part.any(axis=1)]
