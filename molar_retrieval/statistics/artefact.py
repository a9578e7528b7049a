"""The artefact ``statistics``: what a log says of all its people, with noise, and in which terms of the catalogue.

Beside what was released lie the items by their ids, and the map from an encoder's vectors to the features in which
content is told; both are of the catalogue, which is public. Files of other shops that add to it lie in a folder of
their own. All that a private alignment is made of is here: it is brought to later catalogues without another release.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from molar_retrieval.columns import ITEM_ID
from molar_retrieval.ids import IdMap
from molar_retrieval.statistics.adding import together
from molar_retrieval.statistics.released import Released
from molar_retrieval.statistics.shared import SharedStatistics, open_shared
from molar_retrieval.statistics.terms import ContentTerms
from molar_retrieval.workspace import Manifest

KIND = "statistics"
OTHERS = "others"
"""The folder, in a version, of files of other shops, by their digests."""
_ITEMS, _CONDITIONER = "items.parquet", "conditioner.safetensors"


@dataclass(frozen=True, eq=False)
class PublishedStatistics:
    """A version of the artefact: the release, the items that its rows are of, how content is told, and other shops'."""

    released: Released
    items: IdMap
    terms: ContentTerms
    manifest: Manifest
    others: tuple[SharedStatistics, ...] = ()

    def over(self, items: IdMap) -> tuple[Released, Released]:
        """Sums over other items, with those of the other shops: see :func:`.adding.together`."""

        def here(released: Released, of: IdMap) -> Released:
            return released.moved(items.rows(of.array).astype("int64"), len(items))

        others = [(here(one.released, one.items), one.terms.digest == self.terms.digest) for one in self.others]
        return together(here(self.released, self.items), others)


def save_statistics(folder: Path, released: Released, items: IdMap, terms: ContentTerms) -> dict[str, Any]:
    """Write all but the manifest, and return what belongs into its facts."""
    released.save(folder)
    pq.write_table(pa.table({ITEM_ID: items.array}), folder / _ITEMS, compression="zstd")
    save_file(terms.tensors(), folder / _CONDITIONER)
    return terms.facts()


def open_statistics(folder: Path) -> PublishedStatistics:
    """Read a version; a StaleArtefactError says that its manifest is damaged."""
    manifest = Manifest.read(folder)
    terms = ContentTerms.of(manifest.facts, load_file(folder / _CONDITIONER))
    items = IdMap(pq.read_table(folder / _ITEMS, use_threads=False)[ITEM_ID])
    others = tuple(open_shared(path) for path in sorted((folder / OTHERS).glob("*")))
    return PublishedStatistics(Released.open(folder), items, terms, manifest, others)
