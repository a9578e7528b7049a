"""Events as a file for other programs, which can be appended again."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from molar_retrieval import limits
from molar_retrieval.errors import DataError
from molar_retrieval.events.schema import SCHEMA
from molar_retrieval.frames import TableWriter, ending_of
from molar_retrieval.workspace.files import for_owner, lock_beside, sync_file, sync_folder


def write(tables: Iterable[pa.Table], path: Path) -> int:
    """Write .parquet, .csv or .jsonl under another name, then rename; how many lines.

    Raises:
        RequestError: If the ending is none of these.
        DataError: If the path is a folder.
    """
    limits.path("the file of the export", path)
    ending = ending_of(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder", "name a file")
    partial = path.with_name(f".{path.name}.partial")
    with lock_beside(path):
        try:
            lines = 0
            with TableWriter(partial, SCHEMA, ending) as writer:
                for table in tables:
                    writer.write(table)
                    lines += len(table)
            for_owner(partial)
            sync_file(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)
    return lines
