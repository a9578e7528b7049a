"""The artefact ``statistics``: what a log says of all its people, with noise, and in which terms of the catalogue.

Beside what was released lie the items by their ids, and the map from an encoder's vectors to the features in which
content is told; both are of the catalogue, which is public. All that a private alignment is made of is here: it is
brought to later catalogues without another release.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from molar_retrieval.alignment.conditioning import Conditioner
from molar_retrieval.arrays import Matrix
from molar_retrieval.columns import ITEM_ID
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.ids import IdMap
from molar_retrieval.statistics.released import Released
from molar_retrieval.workspace import Manifest

KIND = "statistics"
_ITEMS, _CONDITIONER, _AXES = "items.parquet", "conditioner.safetensors", "axes"


@dataclass(frozen=True, eq=False)
class PublishedStatistics:
    """A version of the artefact: the release, the items that its rows are of, and how content is told in it.

    ``axes``, (f, d), lead from conditioned content vectors to the features of the release.
    """

    released: Released
    items: IdMap
    conditioner: Conditioner
    axes: Matrix
    manifest: Manifest


def save_statistics(
    folder: Path, released: Released, items: IdMap, conditioner: Conditioner, axes: Matrix
) -> dict[str, Any]:
    """Write all but the manifest, and return what belongs into its facts."""
    released.save(folder)
    pq.write_table(pa.table({ITEM_ID: items.array}), folder / _ITEMS, compression="zstd")
    arrays = {f"mean.{number}": mean for number, mean in enumerate(conditioner.means)}
    arrays |= {f"map.{number}": matrix for number, matrix in enumerate(conditioner.maps)}
    arrays |= {_AXES: axes}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _CONDITIONER)
    return {"content_blocks": [[block.name, block.start, block.stop] for block in conditioner.blocks]}


def open_statistics(folder: Path) -> PublishedStatistics:
    """Read a version; a StaleArtefactError says that its manifest is damaged."""
    manifest, arrays = Manifest.read(folder), load_file(folder / _CONDITIONER)
    blocks = tuple(VectorBlock(*block) for block in manifest.facts["content_blocks"])
    count = range(len(blocks))
    means, maps = (tuple(arrays[f"{what}.{number}"] for number in count) for what in ("mean", "map"))
    conditioner = Conditioner(blocks, means, maps)
    items = IdMap(pq.read_table(folder / _ITEMS, use_threads=False)[ITEM_ID])
    return PublishedStatistics(Released.open(folder), items, conditioner, arrays[_AXES], manifest)
