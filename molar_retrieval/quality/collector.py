"""Takes findings as they come: counts all, keeps the worst of each kind, writes every one into the fix list."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.quality.findings import FaultKind, Finding, Severity, fault, fault_kinds
from molar_retrieval.table_writer import TableWriter, ending_of

EXAMPLES = 40  # How many findings of a kind a report may show
LIMIT = 1_000  # How many findings of a kind are made where a pass over many rows may find millions
_COLUMNS = ("kind", "severity", "item_id", "user_id", "file", "row", "column", "detail", "others", "amount", "remedy")
_TYPES = {"row": pa.int64(), "others": pa.list_(pa.string()), "amount": pa.float64()}
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _COLUMNS])  # of a fix list
_FLUSH = 16_384
_ORDER = tuple(Severity)
_MODULUS = 1 << 128


class Collector:
    """Collects findings in bounded memory; a context manager.

    Each is written into ``fix_list``, a .parquet, .csv or .jsonl file, if given.
    ``examples`` of a kind are kept, and no more than ``limit`` are made by :meth:`add` and :meth:`each`, however many
    there are; ``counts`` has the number of each kind.
    """

    def __init__(self, fix_list: Path | None = None, *, examples: int = EXAMPLES, limit: int = LIMIT) -> None:
        self.counts: Counter[str] = Counter()
        self._kinds: dict[str, FaultKind] = {}
        self._made: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._worst: dict[str, list[tuple[float, int, Finding]]] = {}
        self._examples, self._limit = examples, limit
        self._people: dict[str, str] = {}
        self._number = count()
        self._path = fix_list
        self._ending = "" if fix_list is None else ending_of(fix_list)
        self._writer: TableWriter | None = None
        self._rows: list[Finding] = []

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = TableWriter(self._path, SCHEMA, self._ending)
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.__exit__(*error)

    def take(self, findings: Iterable[Finding]) -> None:
        """Take findings of any kinds, all of them."""
        for finding in findings:
            self.counts[finding.kind.name] += 1
            self._keep(finding)

    def add(self, kind: str, detail: str, **more: Any) -> None:
        """Take one of a pass over many rows; ``more`` are attributes of a :class:`Finding`."""
        self.each(kind, [0], lambda _: fault(kind, detail, **more))

    def each(self, kind: str, rows: Sequence[int] | npt.NDArray[np.integer], make: Callable[[int], Finding]) -> None:
        """Count one for each of some rows, those that matter most first, and make no more than the limit."""
        if not len(rows):
            return
        self._kinds.setdefault(kind, fault_kinds()[kind])
        self.counts[kind] += len(rows)
        made = rows[: max(self._limit - self._made[kind], 0)]
        self._made[kind] += len(made)
        for row in made:
            self._keep(make(int(row)))

    def kinds(self) -> list[FaultKind]:
        """The kinds that were found: worst severity first, then by number."""
        return sorted(
            self._kinds.values(), key=lambda kind: (_ORDER.index(kind.severity), -self.counts[kind.name], kind.name)
        )

    def examples(self, name: str) -> list[Finding]:
        """The worst findings of a kind, worst first."""
        return [finding for _, _, finding in sorted(self._worst.get(name, []), key=lambda entry: entry[:2])][::-1]

    def nameless(self, finding: Finding) -> Finding:
        """The finding with a number for the id of a user, the same in all findings, as it is shown and listed.

        File and row suffice to mend it.
        """
        own = finding.user_id
        if own is None:
            return finding
        name = self._people.setdefault(own, f"user {len(self._people) + 1}")
        return replace(finding, user_id=name, others=(), detail=finding.detail.replace(repr(own), name))

    def key(self, name: str) -> str:
        """What tells the findings of a kind from others: how many there are, and what they are about, in any order."""
        about = f"{self.counts[name]} {self._sums[name] % _MODULUS}".encode()
        return f"{name}-{blake2b(about, digest_size=8).hexdigest()}"

    def _keep(self, finding: Finding) -> None:
        self._kinds.setdefault(finding.kind.name, finding.kind)
        self._sums[finding.kind.name] += _digest(finding)
        # The number keeps equal amounts in their order and keeps findings from being compared.
        entry = (finding.amount, -next(self._number), finding)
        worst = self._worst.setdefault(finding.kind.name, [])
        if len(worst) < self._examples:
            heapq.heappush(worst, entry)
        else:
            heapq.heappushpop(worst, entry)
        if self._writer is not None:
            self._rows.append(finding)
            if len(self._rows) >= _FLUSH:
                self._flush()

    def _flush(self) -> None:
        if self._rows and self._writer is not None:
            rows = [_row(self.nameless(finding)) for finding in self._rows]
            self._writer.write(pa.RecordBatch.from_pylist(rows, SCHEMA))
            self._rows = []


def _digest(finding: Finding) -> int:
    """Of what a finding is about: who or what it names, else its place in a file."""
    named = finding.item_id, finding.user_id, finding.column, sorted(finding.others)
    place = () if finding.item_id or finding.user_id else (finding.file, finding.row, finding.detail)
    text = repr((named, place)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=16).digest())


def _row(finding: Finding) -> dict[str, Any]:
    kind, detail = finding.kind, finding.detail.encode("utf-8", "replace").decode("utf-8")
    told = {"kind": kind.name, "severity": str(kind.severity), "detail": detail, "remedy": kind.remedy}
    return vars(finding) | told | {"others": list(finding.others)}
