"""The side file for what could not be used: which file, which row, why."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from molar_retrieval.catalog.rows import RowChecks, Rows
from molar_retrieval.catalog.table_file import TableFile
from molar_retrieval.catalog.values import shown
from molar_retrieval.errors import DataError

SCHEMA = pa.schema([("file", pa.string()), ("row", pa.int64()), ("item_id", pa.string()), ("reason", pa.string())])
FILE_NAME = "rejects.parquet"
_FLUSH = 65_536


class Rejects(TableFile):
    """Collects rejected rows into a Parquet file, in bounded memory; unless this is entered, they are only counted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)
        self.counts: Counter[str] = Counter()  # by kind
        self.first: dict[str, str] = {}  # a whole reason of each kind, for messages
        self._added: list[dict[str, Any]] = []

    def add(self, file: str, row: int, item_id: str | None, kind: str, detail: str = "") -> None:
        """Record one reject: ``row`` counts from 1, ``kind`` is what is wrong, ``detail`` the value or the like."""
        reason = f"{kind}: {detail}" if detail else kind
        self.counts[kind] += 1
        self.first.setdefault(kind, f"{file}, row {row}: {reason}")
        self._added.append({"file": file, "row": int(row), "item_id": item_id, "reason": reason})
        if len(self._added) >= _FLUSH:
            self._take()

    def add_failed(self, file: str, rows: Rows, checks: RowChecks, item_column: str) -> None:
        """Record the rows of a batch that failed some checks, with the ids of their items."""
        failed = [(int(place), kind, column) for places, kind, column in checks.failed for place in places]
        for place, kind, column in sorted(failed, key=lambda one: one[0]):
            detail = "" if column is None else shown(rows.batch[column], place)
            self.add(file, int(rows.numbers[place]), rows.batch[item_column][place].as_py(), kind, detail)

    @property
    def total(self) -> int:
        """How many rejects there are."""
        return self.counts.total()

    @property
    def facts(self) -> dict[str, Any]:
        """The counts, as the facts of a manifest hold them."""
        return {"rejects": self.total, "rejects_by_kind": dict(self.counts.most_common())}

    def unusable(self, path: Path, rows: int, *, nothing: str, remedy: str, before: int = 0) -> DataError:
        """The error for a file of which no row is usable; ``before`` is how many rejects other files had."""
        if self.total == before:
            return DataError(f"{path} has no rows", nothing)
        kind, n = self.counts.most_common(1)[0]
        return DataError(f"{path}: none of its {rows:,} rows is usable; {n:,} × {kind} ({self.first[kind]})", remedy)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self._take()
        super().__exit__(kind, error, trace)

    def _take(self) -> None:
        if self._writer is not None and self._added:
            self.write(pa.RecordBatch.from_pylist(self._added, SCHEMA))
        self._added.clear()


def in_words(facts: dict[str, Any]) -> str:
    """How many rejects of each kind, by the facts of a manifest: the end of a sentence, empty where there are none."""
    if not facts["rejects"]:
        return ""
    kinds = ", ".join(f"{n:,} × {kind}" for kind, n in facts["rejects_by_kind"].items())
    return f"; {facts['rejects']:,} rejects ({kinds})"


def with_new_ids(
    rows: Rows,
    column: str,
    seen: dict[str, None],
    rejects: Rejects | None,
    file: str,
    kinds: tuple[str, str] = ("missing id", "duplicate id"),
    *,
    items: bool = True,
) -> Rows:
    """The rows with an id that no row before them had; ``seen`` grows.

    The others are rejected (None: nobody wants to know) as the first of ``kinds`` where they have no id, else as the
    second; ``items`` says whether the ids are those of items.
    """
    keep = np.ones(len(rows), bool)
    for place, found in enumerate(rows.batch[column].to_pylist()):
        blank = found is None or not found.strip()
        if not blank and found not in seen:
            seen[found] = None
            continue
        keep[place] = False
        if rejects is not None:
            item_id = found if items and not blank else None
            rejects.add(file, int(rows.numbers[place]), item_id, kinds[0] if blank else kinds[1])
    return rows.where(keep)
