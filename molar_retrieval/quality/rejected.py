"""What was set aside when a catalogue was prepared, as findings."""

from collections.abc import Iterator

from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.quality import photos
from molar_retrieval.quality.findings import Finding, Kind, Severity
from molar_retrieval.quality.items import PHOTO_REJECT, Items, rejects

UNUSABLE = Kind(
    "catalogue.unusable", Severity.ERROR, "The catalogue cannot be read", "do what the detail says; then check again"
)
ROW = Kind(
    "catalogue.row",
    Severity.ERROR,
    "A row that cannot be read",
    "correct it: as many fields as the header has, in UTF-8",
)
NO_ID = Kind("item.no_id", Severity.ERROR, "No id", "give it one: it is left out")
SAME_ID = Kind("item.same_id", Severity.ERROR, "An id that another row has", "keep one of them: the first one is used")
NOT_FINITE = Kind(
    "attribute.not_finite", Severity.WARNING, "Infinity or not a number", "write a number or leave the field empty"
)
EMPTY = Kind(
    "item.empty",
    Severity.ERROR,
    "Neither words nor a photo: nothing can be embedded",
    "give it a title or a photo, or leave the item out",
)
KINDS = (UNUSABLE, EMPTY, ROW, NO_ID, SAME_ID, NOT_FINITE)
_BY_REASON = {"missing id": NO_ID, "duplicate id": SAME_ID, "not a finite number, left empty": NOT_FINITE}
_PHOTOS = (
    ("there is no such file", photos.MISSING),
    ("URL", photos.OUTSIDE),
    ("leaves the catalogue", photos.OUTSIDE),
    ("out of the catalogue", photos.OUTSIDE),
    ("not relative to the catalogue", photos.OUTSIDE),
    ("larger than", photos.TOO_LARGE),
)


def check_rejects(catalogue: Catalogue, items: Items) -> Iterator[Finding]:
    """Rows that were left out, and photos that were refused by path or header."""
    for file, row, item_id, reason in rejects(catalogue):
        kind, _, detail = reason.partition(": ")
        if kind == PHOTO_REJECT:
            found = next((fault for words, fault in _PHOTOS if words in detail), photos.UNREADABLE)
            yield Finding(found, detail, item_id=item_id, file=file, row=row, column=items.photo_column)
        else:
            column = detail.partition(" is ")[0] if kind.startswith("not a finite") else None
            yield Finding(_BY_REASON.get(kind, ROW), reason, item_id=item_id, file=file, row=row, column=column)
