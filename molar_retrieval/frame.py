"""Tables on their way out: any data frame library takes them, and a notebook shows them."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Self

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
