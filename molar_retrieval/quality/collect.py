"""Takes findings as they come: counts all, keeps the worst of each kind, writes every one into the fix list."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval.quality.findings import Finding, Kind, Severity

EXAMPLES = 40
"""How many findings of a kind a report may show."""
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("severity", pa.string()),
        ("item_id", pa.string()),
        ("user_id", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("column", pa.string()),
        ("detail", pa.string()),
        ("others", pa.list_(pa.string())),
        ("amount", pa.float64()),
        ("remedy", pa.string()),
    ]
)
"""The columns of a fix list."""
_FLUSH = 16_384
_ORDER = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


class Collector:
    """Collects findings in bounded memory; a context manager.

    Args:
        fix_list: A Parquet file with a row for each finding, or None.
        examples: How many findings of a kind are kept.

    Attributes:
        counts: Findings of each kind, by its name.
    """

    def __init__(self, fix_list: Path | None = None, *, examples: int = EXAMPLES) -> None:
        self.counts: Counter[str] = Counter()
        self._kinds: dict[str, Kind] = {}
        self._worst: dict[str, list[tuple[float, int, Finding]]] = {}
        self._most = examples
        self._number = count()
        self._path = fix_list
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[Finding] = []

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, SCHEMA, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()

    def take(self, findings: Iterable[Finding], counts: Mapping[str, int] | None = None) -> None:
        """Take findings.

        Args:
            findings: Of any kinds.
            counts: How many faults of each kind there are, where not every one is a finding.
        """
        seen: Counter[str] = Counter()
        for finding in findings:
            name = finding.kind.name
            seen[name] += 1
            self._kinds.setdefault(name, finding.kind)
            # The number keeps equal amounts in their order and keeps findings from being compared.
            entry = (finding.amount, -next(self._number), finding)
            kept = self._worst.setdefault(name, [])
            if len(kept) < self._most:
                heapq.heappush(kept, entry)
            else:
                heapq.heappushpop(kept, entry)
            if self._writer is not None:
                self._rows.append(finding)
                if len(self._rows) >= _FLUSH:
                    self._flush()
        for name, n in seen.items():
            self.counts[name] += max(n, (counts or {}).get(name, 0))

    def kinds(self) -> list[Kind]:
        """The kinds that were found: worst severity first, then by number."""
        return sorted(
            self._kinds.values(), key=lambda kind: (_ORDER.index(kind.severity), -self.counts[kind.name], kind.name)
        )

    def examples(self, name: str) -> list[Finding]:
        """The worst findings of a kind, worst first."""
        return [finding for _, _, finding in sorted(self._worst.get(name, []), key=lambda entry: entry[:2])][::-1]

    def total(self, severity: Severity) -> int:
        """Findings of a severity."""
        return sum(self.counts[kind.name] for kind in self._kinds.values() if kind.severity is severity)

    def _flush(self) -> None:
        if not self._rows or self._writer is None:
            return
        found, self._rows = self._rows, []
        columns = [
            [f.kind.name for f in found],
            [str(f.kind.severity) for f in found],
            [f.item_id for f in found],
            [f.user_id for f in found],
            [f.file for f in found],
            [f.row for f in found],
            [f.column for f in found],
            [f.detail.encode("utf-8", "replace").decode("utf-8") for f in found],
            [list(f.others) for f in found],
            [f.amount for f in found],
            [f.kind.remedy for f in found],
        ]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
