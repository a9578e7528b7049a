"""Tables on their way out: any data frame library takes them, and a notebook shows them."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from molar_retrieval.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SHOWN = 30


class Frame:
    """A small table over Arrow memory.

    It speaks the Arrow PyCapsule interface: ``polars.DataFrame(frame)``, ``pyarrow.table(frame)`` and
    ``duckdb`` take it as it is.
    """

    def __init__(self, table: "pa.Table") -> None:
        self.table = table

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> Self:
        """A table of rows; ``kinds`` are Arrow types by column: ``string``, ``double``, ``int32``, ``list<string>``."""
        import pyarrow as pa

        types = {name: pa.list_(pa.string()) if kind == "list<string>" else pa.type_for_alias(kind)
                 for name, kind in kinds.items()}  # fmt: skip
        return cls(pa.Table.from_pylist([dict(row) for row in rows], pa.schema(list(types.items()))))

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.table.column_names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def to_pandas(self) -> "pd.DataFrame":
        """As a pandas data frame; pandas must be installed."""
        return self.table.to_pandas()

    def to_pylist(self) -> list[dict[str, Any]]:
        """As dictionaries, one per row."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self.table.schema.__arrow_c_schema__()

    def __repr__(self) -> str:
        from io import StringIO

        from pyarrow.types import is_floating, is_integer
        from rich.console import Console
        from rich.table import Table

        shown = Table(box=None, pad_edge=False)
        for name, kind in zip(self.table.column_names, self.table.schema.types, strict=True):
            shown.add_column(name, justify="right" if is_integer(kind) or is_floating(kind) else "left")
        for row in self.to_pylist()[:_SHOWN]:
            shown.add_row(*map(_cell, row.values()))
        out = StringIO()
        Console(file=out, width=120, highlight=False, markup=False).print(shown)
        more = len(self) - _SHOWN
        return out.getvalue().rstrip("\n") + (f"\n… {more:,} more rows" if more > 0 else "")

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        rows = "".join(f"<tr>{''.join(map(_html_cell, row.values()))}</tr>" for row in self.to_pylist()[:_SHOWN])
        more = len(self) - _SHOWN
        rest = f"<p>… {more:,} more rows</p>" if more > 0 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"


def _html_cell(value: Any) -> str:
    side = "right" if isinstance(value, int | float) else "left"
    return f"<td style='text-align:{side}'>{escape(_cell(value))}</td>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


LIST_SEPARATOR = "|"
"""What stands between the elements of a list in CSV; parts of a struct are columns of their own, ``parts.NAME``."""
_AT_ONCE = 10_000
_FORMULA = "^'*[=+\\-@\t\r\n]"
_ESCAPED = re.compile("'" + _FORMULA.removeprefix("^"))


_ENDINGS = (".parquet", ".csv", ".jsonl")


def ending_of(path: Path) -> str:
    """How the file is written, as its ending says, Parquet without one; a RequestError names those that are known."""
    ending = path.suffix.lower() or ".parquet"
    if ending not in _ENDINGS:
        raise RequestError(f"{path} has no known ending", f"name a file ending in {', '.join(_ENDINGS)}")
    return ending


class TableWriter:
    """Writes tables of one schema one after the other, as the ending says; a context manager."""

    def __init__(self, path: Path, schema: "pa.Schema", ending: str) -> None:
        import pyarrow.csv as pa_csv
        import pyarrow.parquet as pq

        self._schema, self._ending = schema, ending
        if ending == ".parquet":
            self._file: Any = pq.ParquetWriter(path, schema, compression="zstd")
        elif ending == ".csv":
            self._file = pa_csv.CSVWriter(path, _flat(schema.empty_table()).schema)
        else:
            self._file = path.open("w", encoding="utf-8")

    def write(self, table: "pa.Table | pa.RecordBatch") -> None:
        """Append rows."""
        import pyarrow as pa

        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table], self._schema)
        if self._ending == ".jsonl":
            for batch in table.to_batches(_AT_ONCE):
                for row in batch.to_pylist():
                    self._file.write(json.dumps(document(row), ensure_ascii=False) + "\n")
        else:
            self._file.write_table(_escaped(_flat(table)) if self._ending == ".csv" else table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def document(row: dict[str, Any]) -> dict[str, Any]:
    """A row for JSON, without what is missing; times are ISO 8601."""
    known = {name: value for name, value in row.items() if value is not None}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in known.items()}


def unescaped(text: str) -> str:
    """The text of a CSV cell, without the apostrophe that keeps it from being a formula."""
    return text[1:] if _ESCAPED.match(text) else text


def _escaped(table: "pa.Table") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            text = table[number]
            safe = pc.binary_join_element_wise(pa.scalar("'", field.type), text, pa.scalar("", field.type))
            column = pc.if_else(pc.match_substring_regex(text, _FORMULA), safe, text)
            table = table.set_column(number, field, column)
    return table


def _flat(table: "pa.Table") -> "pa.Table":
    """A table of columns that CSV has."""
    import pyarrow as pa

    flat = table.flatten()
    for number, field in enumerate(flat.schema):
        if pa.types.is_list(field.type):
            joined = [None if row is None else LIST_SEPARATOR.join(map(str, row)) for row in flat[number].to_pylist()]
            flat = flat.set_column(number, field.name, pa.array(joined, pa.string()))
    return flat
