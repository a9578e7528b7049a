"""Events as a file for other programs, which can be appended again."""

import json
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from molar_retrieval import bounds
from molar_retrieval.durable import sync_file, sync_folder
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.locks import lock_beside

_AT_ONCE = 10_000


def write(table: pa.Table, path: Path) -> None:
    """Write .parquet, .csv or .jsonl under another name, then rename; a RequestError or DataError where it cannot."""
    bounds.path("the file of the export", path)
    writers = {".parquet": pq.write_table, ".csv": pa_csv.write_csv, ".jsonl": _write_jsonl}
    if path.suffix not in writers:
        raise RequestError(f"{path} has no known ending", f"name a file ending in {', '.join(writers)}")
    if path.is_dir():
        raise DataError(f"{path} is a folder", "name a file")
    partial = path.with_name(f".{path.name}.partial")
    with lock_beside(path):
        try:
            writers[path.suffix](table, partial)
            sync_file(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in table.to_batches(_AT_ONCE):
            for row in batch.to_pylist():
                file.write(json.dumps(document(row), ensure_ascii=False) + "\n")


def document(row: dict[str, object]) -> dict[str, object]:
    """A line of the log for JSON, without what is missing; times are ISO 8601."""
    known = {name: value for name, value in row.items() if value is not None}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in known.items()}
