"""What the checks of a catalogue share: kinds of finding, single findings, and their collector."""

import heapq
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.frames import TableWriter, ending_of

EXAMPLES = 40  # How many findings of a kind a report may show
LIMIT = 1_000  # How many findings of a kind are made where a pass over many rows may find millions
_COLUMNS = ("kind", "severity", "item_id", "user_id", "file", "row", "column", "detail", "others", "amount", "remedy")
_TYPES = {"row": pa.int64(), "others": pa.list_(pa.string()), "amount": pa.float64()}
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _COLUMNS])  # of a fix list
_FLUSH = 16_384


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"  # The item, row or data set cannot be used as it is
    WARNING = "warning"  # It can be used, and results will be worse for it
    NOTE = "note"  # Worth knowing; may be as it should


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding: area and name, as in ``photo.unreadable``, what is wrong (a heading), and what to do."""

    name: str
    severity: Severity
    title: str
    remedy: str


@cache
def finding_kinds() -> Mapping[str, FindingKind]:
    """Every kind of `checks.toml` by its name, in the order in which a document lists them."""
    areas = tomllib.loads(Path(__file__).with_name("checks.toml").read_text("utf-8"))
    return {
        f"{area}.{name}": FindingKind(f"{area}.{name}", Severity(of["severity"]), of["title"], of["remedy"])
        for area, kinds in areas.items()
        for name, of in kinds.items()
    }


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        detail: What was seen, in a few words.
        file: The file in the catalogue's folder that holds it; ``row``, from 1, the header not counted; ``column``.
        others: Items or users that share the finding, such as an item's duplicates.
        amount: How bad: a distance, a share, a count; within a kind the largest come first.
    """

    kind: FindingKind
    detail: str
    item_id: str | None = None
    user_id: str | None = None
    file: str | None = None
    row: int | None = None
    column: str | None = None
    others: tuple[str, ...] = ()
    amount: float = 0.0

    @property
    def where(self) -> str:
        """The place in the catalogue's files, as ``interactions.csv, row 7``; empty where it has none."""
        row = None if self.row is None else f"row {self.row}"
        return ", ".join(part for part in (self.file, row) if part)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without the kind and what is empty."""
        amount = self.amount if isfinite(self.amount) else None
        plain = vars(self) | {"others": list(self.others), "amount": amount}
        return {name: value for name, value in plain.items() if name != "kind" and value not in (None, [])}


def finding(kind: str, detail: str, **more: Any) -> Finding:
    """A finding of the kind of a name; ``more`` are attributes of :class:`Finding`."""
    return Finding(finding_kinds()[kind], detail, **more)


@dataclass(frozen=True)
class Found:
    """All findings of one kind: how many, the worst of them, and a key that changes with what they are about."""

    kind: FindingKind
    count: int
    examples: tuple[Finding, ...]
    key: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        named = vars(self.kind) | {"kind": self.kind.name, "severity": str(self.kind.severity)}
        del named["name"]
        return {**named, "key": self.key, "count": self.count, "examples": [one.to_dict() for one in self.examples]}


class FindingCollector:
    """Collects findings in bounded memory; a context manager.

    Each is written into ``fix_list``, a .parquet, .csv or .jsonl file, if given.
    ``examples`` of a kind are kept, and no more than ``limit`` are made by :meth:`add` and :meth:`each`, however many
    there are; ``counts`` has the number of each kind.
    """

    def __init__(self, fix_list: Path | None = None, *, examples: int = EXAMPLES, limit: int = LIMIT) -> None:
        self.counts: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._digests: Counter[str] = Counter()
        self._worst: dict[str, list[tuple[float, int, Finding]]] = {}
        self._examples, self._limit, self._path = examples, limit, fix_list
        self._ending = "" if fix_list is None else ending_of(fix_list)
        self._users: dict[str, str] = {}
        self._number = count()
        self._writer: TableWriter | None = None
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = TableWriter(self._path, SCHEMA, self._ending)
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._flush(self._writer)
            self._writer.__exit__(*error)

    def take(self, findings: Iterable[Finding]) -> None:
        """Take findings of any kinds, all of them."""
        for one in findings:
            self.counts[one.kind.name] += 1
            self._keep(one)

    def add(self, kind: str, detail: str, **more: Any) -> None:
        """Take one of a pass over many rows; ``more`` are attributes of a :class:`Finding`."""
        self.each(kind, [0], lambda _: finding(kind, detail, **more))

    def each(self, kind: str, rows: Sequence[int] | npt.NDArray[np.integer], make: Callable[[int], Finding]) -> None:
        """Count one for each of some rows, those that matter most first, and make no more than the limit."""
        self.counts.update({kind: len(rows)} if len(rows) else {})
        for row in rows[: max(self._limit - self._made[kind], 0)]:
            self._made[kind] += 1
            self._keep(make(int(row)))

    def examples(self, name: str) -> list[Finding]:
        """The worst findings of a kind, worst first."""
        return [one for *_, one in sorted(self._worst.get(name, []), key=lambda entry: entry[:2], reverse=True)]

    def found(self) -> tuple[Found, ...]:
        """By kind, worst severity first, then by number, as a report shows them: without ids of users."""
        severities, kinds = list(Severity), [entries[0][2].kind for entries in self._worst.values()]
        kinds.sort(key=lambda kind: (severities.index(kind.severity), -self.counts[kind.name], kind.name))
        found = []
        for kind in kinds:
            name, number = kind.name, self.counts[kind.name]
            about = f"{number} {self._digests[name] % (1 << 128)}".encode()
            key = f"{name}-{blake2b(about, digest_size=8).hexdigest()}"
            found.append(Found(kind, number, tuple(map(self.anonymised, self.examples(name))), key))
        return tuple(found)

    def anonymised(self, one: Finding) -> Finding:
        """The finding with a number for the id of a user, the same in all findings, as it is shown and listed.

        File and row suffice to mend it.
        """
        own = one.user_id
        if own is None:
            return one
        name = self._users.setdefault(own, f"user {len(self._users) + 1}")
        return replace(one, user_id=name, others=(), detail=one.detail.replace(repr(own), name))

    def _keep(self, one: Finding) -> None:
        kind = one.kind
        # What it is about: who or what it names, else its place in a file; added up, findings are in any order.
        place = () if one.item_id or one.user_id else (one.file, one.row, one.detail)
        about = repr((one.item_id, one.user_id, one.column, sorted(one.others), place)).encode("utf-8", "surrogatepass")
        self._digests[kind.name] += int.from_bytes(blake2b(about, digest_size=16).digest())
        worst = self._worst.setdefault(kind.name, [])
        # The number keeps equal amounts in their order and keeps findings from being compared.
        entry = (one.amount, -next(self._number), one)
        (heapq.heappush if len(worst) < self._examples else heapq.heappushpop)(worst, entry)
        if self._writer is not None:
            shown = vars(self.anonymised(one))
            detail = str(shown["detail"]).encode("utf-8", "replace").decode("utf-8")
            of_kind = {"kind": kind.name, "severity": str(kind.severity), "remedy": kind.remedy}
            self._rows.append(shown | of_kind | {"detail": detail, "others": list(shown["others"])})
            if len(self._rows) >= _FLUSH:
                self._flush(self._writer)

    def _flush(self, writer: TableWriter) -> None:
        if self._rows:
            writer.write(pa.RecordBatch.from_pylist(self._rows, SCHEMA))
        self._rows = []
