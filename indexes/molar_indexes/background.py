"""What a generation keeps beside the vectors, so that answers can be explained."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molar_indexes.attributes import ordinary
from molar_indexes.query_maps import QueryMaps
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.encoders.builtin import image_block
from molar_retrieval.models import content_features
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.item_item import InteractionMatrix
from molar_retrieval.models.vectors import ItemItemVectors
from molar_retrieval.ranking.explanations import ContentKNNWeights, Origins
from molar_retrieval.workspace.artefacts import Manifest
from molar_retrieval.workspace.tensors import zeros_outside

_IMAGE = 256  # dimensions by which photos are searched for
_MANY = 1 << 23
"""Partner weights of which it is not held in memory how many people had both."""


def origins(model: Ensemble, catalogue: Catalogue) -> Origins:
    """How the vectors of a model came about; where content kNN have targets, no likeness is told of."""
    read, taste = model.content_knn, None
    if read is not None and read.targets is None:
        taste = ContentKNNWeights(read.decay, read.last)
    sources = {name.removeprefix("content_"): s for name, s in spans(model.conditioner.output_blocks).items()}
    return Origins(sources, model.content_maps, taste, ordinary(catalogue))


def support(log: Interactions, neighbors: ItemItemVectors, folder: Path | None = None) -> npt.NDArray[np.int32]:
    """How many people had both items of each partner weight, by dimension, then by item.

    Where there are many weights, the numbers lie in ``folder``; None: in memory.
    """
    edges = np.concatenate([[0], np.cumsum([matrix.nnz for matrix in neighbors.matrices], dtype=np.int64)])
    if folder is None or edges[-1] <= _MANY:
        told = np.zeros(edges[-1], np.int32)
    else:
        told = zeros_outside(int(edges[-1]), np.int32, folder)
    taken = InteractionMatrix.of(log)
    for block in taken.blocks:
        both = taken.together(block)
        both.sort_indices()  # so that each pair is looked up by bisection
        for begin, matrix in zip(edges.tolist(), neighbors.matrices, strict=False):
            own = matrix.indptr[block.start : block.stop + 1]
            rows, items = np.repeat(np.arange(len(own) - 1), np.diff(own)), matrix.indices[own[0] : own[-1]]
            if len(items):
                told[begin + own[0] : begin + own[-1]] = np.asarray(both[rows, items]).ravel()
    return told


def spans(parts: Iterable[VectorBlock]) -> dict[str, tuple[int, int]]:
    """First and one past the last dimension of each part."""
    return {part.name: (part.start, part.stop) for part in parts}


def query_maps(
    model: Ensemble, content: ContentVectors, embedded: Manifest
) -> tuple[QueryMaps, npt.NDArray[np.float32] | None]:
    """How a text or a photo is brought into the items' spaces, and the vectors by which photos are searched for."""
    block, features, maps = image_block(content.info, content.blocks), None, None
    if block is not None:
        maps = content_features.fit(content.vectors, [block], _IMAGE)
        features = maps(content.vectors)
    settings = dict(embedded.settings)
    return QueryMaps(settings.get("embed", {}), dict(content.info), model.conditioner, maps), features
