"""What a published data set has to offer: what the layouts give, and what a catalogue is written from."""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.rows import Rows

_FILE = (resources.files(__package__) / "layouts.toml").read_text("utf-8")
LAYOUTS: Mapping[str, Mapping[str, Any]] = tomllib.loads(_FILE)  # by format


def described(format_: str) -> dict[str, Any]:
    """What the layout of a format says about :class:`PublishedData`, by attribute."""
    known = ("attributes", "language", "time_unit", "notes")
    return {name: value for name, value in LAYOUTS[format_].items() if name in known}


@dataclass(frozen=True)
class PublishedTable:
    """A file read in bounded memory as batches of one schema, with row numbers; unreadable rows go to rejects."""

    path: Path
    rows: Callable[[Rejects], Iterator[Rows]]

    def then(self, shape: Callable[[Rows], Rows]) -> "PublishedTable":
        """The table with each batch given another shape."""
        return PublishedTable(self.path, lambda rejects: map(shape, self.rows(rejects)))


@dataclass(frozen=True)
class PublishedData:
    """A published data set, opened: its files are found and their headers are right.

    Attributes:
        items: ``item_id`` (string, null or repeated where the data are so), ``title`` and more.
        log: ``user_id`` and ``item_id`` (strings), ``timestamp`` (as the file has it), perhaps more.
        photos: Where the photos lie unless the caller says otherwise; it need not exist.
        attributes: The item columns that enter the vectors; all others are kept for display and filters.
        users: ``user_id`` (string) and more, or None.
        language: Of the texts, as in BCP 47, empty where it is not known.
        time_unit: Of times that are numbers: ``s``, ``ms`` or ``auto``.
        notes: What whoever uses the data should know.
        photo_names: Where the photo of an item may lie, best first: relative to the photos folder, without the
            extension. Called after the items have been read.
    """

    items: PublishedTable
    log: PublishedTable
    photos: Path
    attributes: Sequence[str]
    users: PublishedTable | None = None
    language: str = "en"
    time_unit: str = "s"
    notes: Sequence[str] = ()
    photo_names: Callable[[str], Sequence[str]] = lambda item_id: (item_id,)
