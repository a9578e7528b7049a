"""What was set aside when a catalogue was prepared, as findings."""

from collections.abc import Iterator

from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.quality.findings import Finding, fault
from molar_retrieval.quality.items import PHOTO_REJECT, Items, rejects

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


def check_rejects(catalogue: Catalogue, items: Items) -> Iterator[Finding]:
    """Rows that were left out, and photos that were refused by path or header."""
    for file, row, item_id, reason in rejects(catalogue):
        where = {"item_id": item_id, "file": file, "row": row}
        kind, _, detail = reason.partition(": ")
        if kind == PHOTO_REJECT:
            found = next((name for words, name in _PHOTOS.items() if words in detail), "photo.unreadable")
            yield fault(found, detail, **where, column=items.photo_column)
        else:
            column = detail.partition(" is ")[0] if kind.startswith("not a finite") else None
            yield fault(_BY_REASON.get(kind, "catalogue.row"), reason, **where, column=column)
