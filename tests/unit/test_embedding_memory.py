import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.workspace.artefacts import Manifest, Workspace

TESTS = Path(__file__).resolve().parents[1]
WORDS = "a title of some length, so that two hundred thousand of them take more memory than a run may grow by "


def prepared(root: Path, n: int) -> Path:
    """A workspace with a catalogue of ``n`` texts, without going through a catalogue folder."""
    workspace = Workspace.for_catalogue(root, root.parent)
    partial = workspace["catalogue"].partial("made")
    schema = pa.schema([(name, pa.string()) for name in ("item_id", "text", "image")])
    with pq.ParquetWriter(partial / "items.parquet", schema) as writer:
        for start in range(0, n, 20_000):
            rows = range(start, min(start + 20_000, n))
            writer.write_table(
                pa.table(
                    [
                        [str(row) for row in rows],
                        [f"{row} " + WORDS * (1 + row % 3) for row in rows],
                        pa.nulls(len(rows), pa.string()),
                    ],
                    schema=schema,
                )
            )
    facts = {"items": n, "folder": str(root.parent), "language": None}
    workspace["catalogue"].publish(partial, Manifest("catalogue", "made", facts=facts))
    return root


@pytest.mark.slow
def test_memory_does_not_grow_with_the_catalogue(tmp_path: Path) -> None:
    small, large = prepared(tmp_path / "small", 20_000), prepared(tmp_path / "large", 200_000)
    command = [sys.executable, "embedding_memory_child.py", small, large]
    out = subprocess.run(command, cwd=TESTS, check=True, capture_output=True, text=True, timeout=120).stdout
    encoded, growth = out.split()
    assert int(encoded) == 200_000
    # vectors 51 MB, texts 40 MB; the bookkeeping is allowed some 200 bytes per item
    assert float(growth) < 45
