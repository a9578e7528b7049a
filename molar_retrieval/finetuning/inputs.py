"""What the tasks read: an encoder's vectors of whole items, and of their words and attributes alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.columns import DESCRIPTION, TITLE
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.schema import label
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.embedding.content_vectors import TEXT
from molar_retrieval.encoders.base import VectorBlock, unit
from molar_retrieval.encoders.head import FusionHead, Lexical, word_counts
from molar_retrieval.errors import DataError
from molar_retrieval.models import content_features
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.tensors import Mask, Matrix

Words = Callable[[Sequence[str]], Matrix]
"""Encodes texts: the encoder's vectors, shape (n, dim)."""
WORDS, PHOTO = "content_text", "content_image"
_BATCH = 65_536
_MOST_FITTED = 200_000
_ENCODED = 1024
_KEPT = 0.5


@dataclass(frozen=True, eq=False)
class Inputs:
    """Views of n items, each part conditioned by ``head``, rows of length 1 or 0.

    ``crossing`` holds title and description alone, and the photo in the space of words, both by the encoder itself.
    """

    head: FusionHead
    words: Matrix  # what the encoder reads of each item, shape (n, w)
    photo: Matrix  # what it sees, shape (n, p)
    written: Matrix  # its words as they are written, shape (n, v)
    described: Matrix  # title and description alone, shape (n, w)
    named: Matrix  # attributes alone, shape (n, w)
    half_named: Matrix  # about half of the attributes, drawn at random, shape (n, w)
    crossing: tuple[Matrix, Matrix]  # shape (n, width of the encoder's words) each
    double: npt.NDArray[np.int64]  # a number that items of the very same title and description share, shape (n,)
    learn: Mask  # which items may be learned from, shape (n,)

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True, eq=False)
class TaskTexts:
    """What the tasks need beside the items' own vectors, by the same encoder, as it gives it: w numbers of words."""

    described: Matrix  # title and description alone, shape (n, w), zeros without
    double: npt.NDArray[np.int64]  # as in Inputs
    phrases: Matrix  # of attributes (colour: red), shape (m, w)
    holders: csr_matrix  # which items have which of them, shape (n, m)
    written: csr_matrix  # counts of words, of all that is said of an item


def read_texts(catalogue: Catalogue, content: ContentVectors, encode: Words, progress: Progress = SILENT) -> TaskTexts:
    """Encode titles with descriptions, and attributes, by the encoder that made the vectors; raises as parts_of."""
    block, _ = parts_of(content.blocks, str(content.info["name"]))
    own = slice(block.start, block.stop)
    texts, double = descriptions_of(catalogue)
    holders, phrases = phrases_of(catalogue)
    has = [row for row, text in enumerate(texts) if text is not None]
    progress.start("texts", len(has) + len(phrases))

    def words(some: Sequence[str]) -> Matrix:
        found = [np.zeros((0, own.stop - own.start), np.float32)]
        for begin in range(0, len(some), _ENCODED):
            found.append(encode(some[begin : begin + _ENCODED])[:, own])
            progress.advance(len(found[-1]))
        return np.concatenate(found)

    described = np.zeros((len(content.vectors), own.stop - own.start), np.float32)
    described[has] = words([str(texts[row]) for row in has])
    meanings = words(phrases)
    progress.finish()
    return TaskTexts(described, double, meanings, holders, written_of(catalogue))


def parts_of(blocks: Sequence[VectorBlock], encoder: str) -> tuple[VectorBlock, VectorBlock]:
    """Where words and photos are in an encoder's vectors; DataError if they are not apart."""
    if [block.name for block in blocks] != [WORDS, PHOTO]:
        raise DataError(
            f"the vectors by {encoder} do not keep words and photos apart, so no head can weigh them",
            "name an encoder that does, such as --model builtin",
        )
    return blocks[0], blocks[1]


def inputs_of(content: ContentVectors, texts: TaskTexts, learn: Mask, keep: int, seed: int = 0) -> Inputs:
    """Condition all views by items that may be learned from, shape (n,); ``keep`` dimensions of a block at most."""
    head = _conditions(content, texts, learn, keep)
    parts = [head.conditioned(content.vectors[at : at + _BATCH]) for at in range(0, len(content.vectors), _BATCH)]
    words, photo = (np.concatenate(part) for part in zip(*parts, strict=True))
    described, meanings = head.words(texts.described), head.words(texts.phrases)
    half = texts.holders.copy()
    half.data *= rng.generator(seed, "masked attributes").random(half.nnz) < _KEPT
    named, half_named = (unit(np.asarray(some @ meanings, np.float32)) for some in (texts.holders, half))
    # Where words and photo share a space, its numbers come first in the photo's block.
    block, wide = content.blocks[1], texts.described.shape[1]
    seen = np.asarray(content.vectors[:, block.start : min(block.stop, block.start + wide)], np.float32)
    crossing = unit(texts.described), unit(seen) if seen.shape[1] == wide else np.zeros_like(texts.described)
    written = head.lexical(texts.written)
    return Inputs(head, words, photo, written, described, named, half_named, crossing, texts.double, learn)


def _conditions(content: ContentVectors, texts: TaskTexts, learn: Mask, keep: int) -> FusionHead:
    rows = np.flatnonzero(learn)
    rows = rows[:: max(1, -(-len(rows) // _MOST_FITTED))]
    means, maps = [], []
    for block in content.blocks:
        own = unit(np.asarray(content.vectors[rows, block.start : block.stop], np.float32))
        fitted = content_features.fit(own, [VectorBlock(block.name, 0, own.shape[1])], keep)
        means.append(fitted.means[0])
        maps.append(fitted.maps[0])
    return FusionHead.plain(content.blocks, means, maps, Lexical.fit(texts.written[rows], keep))


def written_of(catalogue: Catalogue) -> csr_matrix:
    """The words of all that is said of each item, see :func:`molar_retrieval.encoders.head.word_counts`."""
    return word_counts(text for batch in catalogue.batches([TEXT], _BATCH) for text in batch[TEXT].to_pylist())


def descriptions_of(catalogue: Catalogue) -> tuple[list[str | None], npt.NDArray[np.int64]]:
    """Title and description of each item, and a number that items share which say the very same."""
    described: list[str | None] = []
    for batch in catalogue.batches([TITLE, DESCRIPTION], _BATCH):
        for title, description in zip(batch[TITLE].to_pylist(), batch[DESCRIPTION].to_pylist(), strict=True):
            described.append("\n".join(part for part in (title, description) if part) or None)
    codes = pc.fill_null(pc.index_in(pa.array(described), pc.unique(pa.array(described))), -1)
    return described, np.asarray(codes, np.int64)


def phrases_of(catalogue: Catalogue) -> tuple[csr_matrix, list[str]]:
    """Which phrases (``colour: red``) each item has, and the phrases."""
    fields, starts, found = catalogue.attribute_fields, [0], []
    known: dict[str, int] = {}
    for batch in catalogue.batches(fields, _BATCH) if fields else ():
        for record in batch.to_pylist():
            for name in fields:
                value = record[name]
                for word in value if isinstance(value, list) else [] if value is None else [value]:
                    found.append(known.setdefault(f"{label(name)}: {word}", len(known)))
            starts.append(len(found))
    starts += [len(found)] * (len(catalogue) + 1 - len(starts))
    data = np.ones(len(found), np.float32)
    return csr_matrix((data, np.array(found, np.int64), starts), (len(catalogue), len(known))), list(known)
