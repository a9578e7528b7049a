"""What a format has to offer: the contract between the formats and what writes a catalogue from them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.sources import Rows


class Published(Protocol):
    """A published data set, opened: its files are found and their headers are right.

    Each stream yields batches of one and the same schema, from beginning to end of a file, in bounded memory; rows
    that are not readable as rows go to the rejects. The row numbers are those of the file.

    Attributes:
        attributes: The item columns that enter the vectors; all others are kept for display and filters.
        language: Of the texts, as in BCP 47, or None.
        time_unit: Of times that are numbers: ``s``, ``ms`` or ``auto``.
        notes: What whoever uses the data should know.
        items_file: The file that ``items`` reads.
        log_file: The file that ``interactions`` reads.
        users_file: The file that ``users`` reads, or None.
        photos: Where the photos lie unless the caller says otherwise; it need not exist.
    """

    attributes: Sequence[str]
    language: str | None
    time_unit: str
    notes: Sequence[str]
    items_file: Path
    log_file: Path
    users_file: Path | None
    photos: Path

    def items(self, rejects: Rejects) -> Iterator[Rows]:
        """The items: ``item_id`` (string, null or repeated where the data are so), ``title`` and more."""
        ...

    def interactions(self, rejects: Rejects) -> Iterator[Rows]:
        """The log: ``user_id`` and ``item_id`` (strings), ``timestamp`` (as the file has it), perhaps more."""
        ...

    def users(self, rejects: Rejects) -> Iterator[Rows]:
        """The users: ``user_id`` (string) and more; called only where there is a users file."""
        ...

    def photo_names(self, item_id: str) -> Sequence[str]:
        """Where the photo of an item may lie, best first: relative to the photos folder, without the extension.

        Called after ``items`` has been read.
        """
        ...


class Common:
    """What most formats have in common: nothing about users, photos called by the item's id."""

    notes: Sequence[str] = ()
    language: str | None = "en"
    users_file: Path | None = None

    def users(self, rejects: Rejects) -> Iterator[Rows]:
        """None."""
        yield from ()

    def photo_names(self, item_id: str) -> Sequence[str]:
        """The item's id."""
        return (item_id,)
