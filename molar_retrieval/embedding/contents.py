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
from molar_retrieval.embedding.earlier import ITEMS
from molar_retrieval.embedding.rowfile import read_tensor_header
from molar_retrieval.embedding.store import VECTORS
from molar_retrieval.encoders.base import Block
from molar_retrieval.encoders.head import FAMILY
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace import Manifest


@dataclass(frozen=True)
class ContentVectors:
    """A version of the content vectors; nothing is read before it is used.

    Attributes:
        ids: The items, in the order of the catalogue.
        vectors: Shape (n, dim), float32, a read-only memory map; rows of length 1, zeros where there was nothing to
            see.
        blocks: Which dimensions stem from what; together they cover the vectors.
        info: What the encoder said about itself.
    """

    ids: IdMap
    vectors: npt.NDArray[np.float32]
    blocks: tuple[Block, ...]
    info: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the version in ``folder`` without copying its vectors.

        Raises:
            StaleArtefactError: If its files do not fit together.
        """
        manifest = Manifest.read(folder)
        count, dim, offset = read_tensor_header(folder / VECTORS)
        vectors = np.memmap(folder / VECTORS, np.dtype("<f4"), "r", offset, (count, dim))
        try:
            ids = IdMap(pq.read_table(folder / ITEMS, columns=[columns.ITEM_ID], use_threads=False)[columns.ITEM_ID])
            blocks = tuple(Block(**block) for block in manifest.settings["blocks"])
            info = manifest.settings["encoder"]
        except (OSError, KeyError, TypeError, pa.ArrowException) as error:
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
        for block in self.blocks:
            if block.name == name:
                return self.vectors[:, block.start : block.stop]
        return None


def _stale(folder: Path, what: str) -> StaleArtefactError:
    return StaleArtefactError(f"{folder} {what}", "run `molar embed CATALOG` again")
