"""What an import did."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote, and what it could not use.

    Attributes:
        folder: The catalogue.
        format: The format that was read.
        files: Names of the files that were read.
        items: Items of the catalogue.
        used: Items with at least one interaction.
        users: Distinct users with at least one interaction.
        interactions: Rows of the log.
        photos: Photos linked or copied.
        dropped: How many rows were left out, by reason; each is listed in ``rejects.parquet``.
        examples: One whole reason of each kind, with file and row.
        unused_dropped: Items left out because nobody interacted with them and the caller wanted it so.
        notes: What whoever uses the data should know.
    """

    folder: Path
    format: str
    files: tuple[str, ...]
    items: int
    used: int
    users: int
    interactions: int
    photos: int
    dropped: Mapping[str, int]
    examples: Mapping[str, str]
    unused_dropped: int = 0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        return {**asdict(self), "folder": str(self.folder)}

    def lines(self) -> list[str]:
        """All of it for people."""
        words = (
            f"{self.items:,} items ({self.used:,} with interactions, {self.photos:,} with a photo), "
            f"{self.interactions:,} interactions of {self.users:,} users"
        )
        told = [f"{self.format} from {', '.join(self.files)} in {self.folder}: {words}"]
        if self.unused_dropped:
            told.append(f"left out: {self.unused_dropped:,} items without an interaction (--drop-unused)")
        for kind, n in self.dropped.items():
            told.append(f"left out: {n:,} × {kind} ({self.examples[kind]})")
        if self.dropped:
            told.append(f"each row left out is listed in {self.folder / 'rejects.parquet'}")
        return told
