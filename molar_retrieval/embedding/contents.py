"""Content vectors as the other steps read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval import columns
from molar_retrieval.embedding.keys import Rows
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.encoders.head import FAMILY
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace import tensors
from molar_retrieval.workspace.artefacts import Manifest

KIND = "content"
VECTORS, TENSOR = "vectors.safetensors", "vectors"
"""The file of a version's vectors, and its only tensor: one row per item, in the order of the catalogue."""
ITEMS = "items.parquet"  # the table of a version's items: the id, and keys.FIELDS


@dataclass(frozen=True)
class ContentVectors:
    """A version of the content vectors; nothing is read before it is used."""

    ids: IdMap  # in the order of the catalogue
    vectors: npt.NDArray[np.float32]  # (n, dim), a read-only map; rows of length 1, zeros where nothing was seen
    blocks: tuple[VectorBlock, ...]  # which dimensions stem from what; together they cover the vectors
    info: Mapping[str, Any]  # what the encoder said about itself

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the version in ``folder``; a StaleArtefactError says that its files do not fit together."""
        manifest = Manifest.read(folder)
        try:
            vectors = tensors.mapped(folder / VECTORS)[TENSOR]
            count, dim = vectors.shape
            ids = IdMap(pq.read_table(folder / ITEMS, columns=[columns.ITEM_ID], use_threads=False)[columns.ITEM_ID])
            blocks = tuple(VectorBlock(**block) for block in manifest.settings["blocks"])
            info = manifest.settings["encoder"]
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise _stale(folder, f"cannot be read: {error}") from error
        if len(ids) != count:
            raise _stale(folder, f"has {count} vectors for {len(ids)} items")
        borders = [0, *(block.stop for block in blocks)]
        if [block.start for block in blocks] != borders[:-1] or borders[-1] != dim:
            raise _stale(folder, f"has blocks that do not cover {dim} dimensions")
        return cls(ids, vectors, blocks, info)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def conditioned(self) -> bool:
        """Whether the encoder conditions and weighs its blocks itself, as a fine-tuned one does."""
        return self.info.get("family") == FAMILY

    def block(self, name: str) -> npt.NDArray[np.float32] | None:
        """The dimensions of one block, shape (n, width), or None where the encoder has no such block."""
        found = (self.vectors[:, block.start : block.stop] for block in self.blocks if block.name == name)
        return next(found, None)


def damaged_rows(folder: Path) -> tuple[int, Rows]:
    """How many vectors a version has, and the rows that hold NaN or an infinite number; raises as tensors.pieces."""
    found, count = [np.zeros(0, np.int64)], 0
    for start, rows in tensors.pieces(folder / VECTORS, TENSOR, 4096):
        # A sum is finite where all numbers are: one pass instead of two; where it is not, the numbers are looked at.
        if not np.isfinite(rows.sum()):
            found.append(start + np.flatnonzero(~np.isfinite(rows).all(axis=1)))
        count = start + len(rows)
    return count, np.concatenate(found)


def _stale(folder: Path, what: str) -> StaleArtefactError:
    return StaleArtefactError(f"{folder} {what}", "run `molar embed CATALOG` again")
