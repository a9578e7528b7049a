"""The fusion head: what `molar finetune` fits on top of an encoder that stays as it is, applied in NumPy.

The encoder's blocks (words, photo) are conditioned each by itself (:mod:`molar_retrieval.models.content_features`).
What an item lacks of the two is guessed from the other. Then the blocks and the words as they are written
(:mod:`molar_retrieval.encoders.lexical`) stand side by side, each as long as it has proven useful, and beside them what
all of it says of who takes the item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.columns import CONTENT
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.encoders.fusion import fuse, unit
from molar_retrieval.encoders.lexical import Lexical, counts

Array = npt.NDArray[np.float32]
FAMILY = "fine-tuned"  # of encoders that end in such a head, whose vectors need no conditioning any more
_MAPS = ("seen", "shown", "attributes", "taken", "usual")
_LEXICAL = ("rarity", "axes", "mean")


@dataclass(frozen=True, eq=False)
class FusionHead:
    """A map from an encoder's vectors to fine-tuned ones."""

    blocks: tuple[VectorBlock, ...]  # of the encoder's vectors: words, then photo
    means: tuple[Array, ...]  # of each block, shape (width,)
    maps: tuple[Array, ...]  # from each block to its dimensions here, shape (width, kept)
    lexical: Lexical  # what stands for the words as they are written
    seen: Array  # from the photo to words that an item lacks, longer the surer it is, shape (kept of photo, of words)
    shown: Array  # the same from words to the photo, shape (kept of the words, kept of the photo)
    attributes: Array  # added to the words, as a function of them, shape (kept of the words, kept of the words)
    taken: Array  # what all of that says of who takes an item, shape (all kept, r)
    usual: Array  # what is added to it: the same for every item, shape (r,)
    shares: tuple[float, ...]  # of the words, of the photo, of the words as written and of taken; their sum is 1

    @classmethod
    def plain(
        cls, blocks: Sequence[VectorBlock], means: Sequence[Array], maps: Sequence[Array], lexical: Lexical
    ) -> Self:
        """A head that only conditions, both blocks as important, without the words as they are written."""
        words, photo = (matrix.shape[1] for matrix in maps)
        return cls(
            blocks=tuple(blocks),
            means=tuple(means),
            maps=tuple(maps),
            lexical=lexical,
            seen=np.zeros((photo, words), np.float32),
            shown=np.zeros((words, photo), np.float32),
            attributes=np.zeros((words, words), np.float32),
            taken=np.zeros((0, 0), np.float32),
            usual=np.zeros(0, np.float32),
            shares=(0.5, 0.5, 0.0, 0.0),
        )

    @property
    def output_blocks(self) -> tuple[VectorBlock, ...]:
        """Where the dimensions of a fine-tuned vector stem from; words as written are words."""
        found, start = [], 0
        words, photo = ((block.name, matrix.shape[1]) for block, matrix in zip(self.blocks, self.maps, strict=True))
        written = len(self.lexical.mean) if self.shares[2] else 0
        for name, width in ((words[0], words[1] + written), photo, (CONTENT, self.taken.shape[1])):
            found += [VectorBlock(name, start, start + width)] if width else []
            start += width
        return tuple(found)

    @property
    def dim(self) -> int:
        """Length of a fine-tuned vector."""
        return self.output_blocks[-1].stop

    def __call__(self, vectors: npt.NDArray[np.floating], texts: Sequence[str | None]) -> Array:
        """Fine-tuned vectors of n items: (n, dim of the encoder) and n texts → (n, dim), rows of length 1 or 0."""
        return self.fused(*self.conditioned(vectors), self.lexical(counts(texts)))

    def conditioned(self, vectors: npt.NDArray[np.floating]) -> tuple[Array, Array]:
        """Words and photo apart, shape (n, kept) each, rows of length 1 or 0."""
        words, photo = (
            _conditioned(vectors[:, block.start : block.stop], mean, matrix)
            for block, mean, matrix in zip(self.blocks, self.means, self.maps, strict=True)
        )
        return words, photo

    def words(self, block: npt.NDArray[np.floating]) -> Array:
        """Words alone: (n, width of the block) → (n, kept)."""
        return _conditioned(block, self.means[0], self.maps[0])

    def read(self, words: Array) -> Array:
        """Conditioned words, brought to what attributes say of them."""
        return unit(words + words @ self.attributes)

    def fused(self, words: Array, photo: Array, written: Array) -> Array:
        """Fine-tuned vectors from the conditioned parts, and the words as they are written."""
        words = self.read(words)
        words, photo = _completed(words, photo, self.seen), _completed(photo, words, self.shown)
        parts = [(self.shares[0], words), (self.shares[2], written), (self.shares[1], photo)]
        if not self.shares[2]:
            del parts[1]
        most = 1 - self.shares[3]
        said = fuse([(share / most, part) for share, part in parts])
        if not self.shares[3]:
            return said
        taken = np.where(said.any(axis=1, keepdims=True), unit(said @ self.taken + self.usual), np.float32(0))
        return fuse([(most, said), (self.shares[3], taken)])

    def to_tensors(self) -> dict[str, Array]:
        """The arrays by name."""
        found = {name: getattr(self, name) for name in _MAPS}
        for name in ("means", "maps"):
            found |= {f"{name}.{n}": array for n, array in enumerate(getattr(self, name))}
        found |= {f"lexical.{name}": getattr(self.lexical, name) for name in _LEXICAL}
        return {name: np.ascontiguousarray(array) for name, array in found.items()}

    def described(self) -> dict[str, Any]:
        """The rest, JSON-able."""
        return {"blocks": [[b.name, b.start, b.stop] for b in self.blocks], "shares": list(self.shares)}

    @classmethod
    def of(cls, described: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of the two."""
        blocks = tuple(VectorBlock(*block) for block in described["blocks"])
        means, maps = (tuple(tensors[f"{name}.{n}"] for n in (0, 1)) for name in ("means", "maps"))
        shares = tuple(float(share) for share in described["shares"])
        lexical = Lexical(*(tensors[f"lexical.{name}"] for name in _LEXICAL))
        return cls(blocks, means, maps, lexical, **{name: tensors[name] for name in _MAPS}, shares=shares)


def _completed(part: Array, other: Array, guess: Array) -> Array:
    """A part with what the other one says where it is missing."""
    lacking = ~part.any(axis=1)
    if lacking.any():
        part = part.copy()
        part[lacking] = other[lacking] @ guess
    return part


def _conditioned(block: npt.NDArray[np.floating], mean: Array, matrix: Array) -> Array:
    own = unit(np.asarray(block, np.float32))
    return np.where(own.any(axis=1, keepdims=True), unit((own - mean) @ matrix), np.float32(0))
