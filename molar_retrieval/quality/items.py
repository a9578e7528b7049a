"""The items of a catalogue as a check sees them, and what was set aside at preparation.

Which row of the file an item is, and what was wrong with its texts, can only be seen in the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.catalog.read import BATCH
from molar_retrieval.catalog.rejects import FILE_NAME as REJECTS
from molar_retrieval.catalog.resolve import items_source
from molar_retrieval.catalog.spec import CatalogueSpec
from molar_retrieval.catalog.values import as_written
from molar_retrieval.columns import IMAGE, ITEM_ID
from molar_retrieval.ids import IdMap
from molar_retrieval.progress import Progress
from molar_retrieval.quality.findings import Finding, fault

LOOKED_AT = 20_000  # Characters of a text that are looked at: what comes after them no encoder reads
_PHOTO_REJECT = "photo not usable"
_BY_REASON = {
    "missing id": "item.no_id",
    "duplicate id": "item.same_id",
    "not a finite number, left empty": "attribute.not_finite",
}
_PHOTOS = {
    "there is no such file": "photo.missing",
    "URL": "photo.outside",
    "leaves the catalogue": "photo.outside",
    "out of the catalogue": "photo.outside",
    "not relative to the catalogue": "photo.outside",
    "larger than": "photo.too_large",
}


@dataclass(frozen=True)
class ItemTexts:
    """Texts of some items as the file has them; ``rows`` of the prepared catalogue, ``numbers`` in the file, from 1."""

    rows: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    titles: list[str | None]
    descriptions: list[str | None]


@dataclass(frozen=True)
class Items:
    """What findings about items need, in the order of the prepared catalogue; some 200 bytes of memory for each.

    ``numbers`` are rows of ``file``, from 1, or 0 where not known; ``photos`` are paths in the catalogue's folder;
    ``titles`` are hashes (uint64), 0 for none; ``bad_photo``: the photo was rejected before it was looked at.
    """

    ids: IdMap
    file: str
    numbers: npt.NDArray[np.int64]
    photos: list[str | None]
    titles: npt.NDArray[np.uint64]
    bad_photo: npt.NDArray[np.bool_]
    title_column: str | None
    description_column: str | None
    photo_column: str | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_photo(self) -> npt.NDArray[np.bool_]:
        """Which items have a photo that is there."""
        return np.array([photo is not None for photo in self.photos], bool)

    def finding(
        self,
        kind: str,
        row: int,
        detail: str,
        amount: float = 0.0,
        *,
        column: str | None = None,
        photo: bool = False,
        others: tuple[str, ...] = (),
    ) -> Finding:
        """A finding about the item of a row; with ``photo`` it is about the column of photos."""
        where = {"item_id": self.ids.id(row), "file": self.file, "row": int(self.numbers[row]) or None}
        column = self.photo_column if photo else column
        return fault(kind, detail, **where, column=column, others=others, amount=amount)


def read_items(catalogue: Catalogue, spec: CatalogueSpec, folder: Path) -> Items:
    """Read what findings need, without the texts, of a catalogue prepared from ``folder`` as it is."""
    photos: list[str | None] = []
    for batch in catalogue.batches([IMAGE], BATCH):
        photos += batch[IMAGE].to_pylist()
    bad = np.zeros(len(catalogue), bool)
    refused = (item_id for _, _, item_id, reason in _rejects(catalogue) if reason.startswith(_PHOTO_REJECT))
    rows = catalogue.ids.rows([item_id for item_id in refused if item_id is not None])
    bad[rows[rows >= 0]] = True
    n = len(catalogue)
    return Items(
        ids=catalogue.ids,
        file=items_source(folder).path.name,
        numbers=np.zeros(n, np.int64),
        photos=photos,
        titles=np.zeros(n, np.uint64),
        bad_photo=bad,
        title_column=spec.items.title,
        description_column=spec.items.description,
        photo_column=spec.items.image,
    )


def read_texts(items: Items, spec: CatalogueSpec, folder: Path, progress: Progress) -> Iterator[ItemTexts]:
    """The texts of all items as the file has them; also fills in the items' row numbers and the hashes of titles.

    Rows that the prepared catalogue left out are left out here.
    """
    source = items_source(folder)
    named = spec.items
    columns = list(dict.fromkeys(c for c in (named.item_id, named.title, named.description) if c is not None))
    taken = np.zeros(len(items), bool)
    progress.start("reading texts", source.total)
    for batch in source.batches(columns, BATCH, as_written={named.item_id}):
        rows = items.ids.rows(as_written(batch.batch[named.item_id])).astype(np.int64)
        first = np.zeros(len(rows), bool)
        first[np.unique(rows, return_index=True)[1]] = True
        keep = (rows >= 0) & first
        keep &= ~taken[np.maximum(rows, 0)]
        rows = rows[keep]
        taken[rows] = True
        mask = pa.array(keep)
        titles = _strings(batch.batch, named.title, mask, len(rows))
        items.numbers[rows] = batch.numbers[keep]
        items.titles[rows] = [text_hash(title) for title in titles]
        descriptions = _strings(batch.batch, named.description, mask, len(rows))
        yield ItemTexts(rows, batch.numbers[keep], titles, descriptions)
        progress.advance(len(batch.numbers))
    progress.finish()


def text_hash(text: str | None) -> int:
    """A number for a text, whatever its case and white space; 0 where there is none."""
    if text is None or not (folded := " ".join(text.casefold().split())):
        return 0
    return int.from_bytes(blake2b(folded.encode("utf-8", "replace"), digest_size=8).digest(), "little") or 1


def _rejects(catalogue: Catalogue) -> Iterator[tuple[str, int, str | None, str]]:
    """What was set aside at preparation: file, row, item and reason."""
    with pq.ParquetFile(catalogue.version / REJECTS) as file:
        for batch in file.iter_batches():
            yield from zip(*(batch[name].to_pylist() for name in ("file", "row", ITEM_ID, "reason")), strict=True)


def check_rejects(catalogue: Catalogue, items: Items) -> Iterator[Finding]:
    """Rows that were left out, and photos that were refused by path or header."""
    for file, row, item_id, reason in _rejects(catalogue):
        where = {"item_id": item_id, "file": file, "row": row}
        kind, _, detail = reason.partition(": ")
        if kind == _PHOTO_REJECT:
            found = next((name for words, name in _PHOTOS.items() if words in detail), "photo.unreadable")
            yield fault(found, detail, **where, column=items.photo_column)
        else:
            column = detail.partition(" is ")[0] if kind.startswith("not a finite") else None
            yield fault(_BY_REASON.get(kind, "catalogue.row"), reason, **where, column=column)


def _strings(batch: pa.RecordBatch, column: str | None, mask: pa.Array, n: int) -> list[str | None]:
    if column is None:
        return [None] * n
    array = batch[column].filter(mask)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        array = pc.binary_join(array.cast(pa.list_(pa.string())), ", ")
    return list(as_written(array).to_pylist())
