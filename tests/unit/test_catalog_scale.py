"""A large catalogue is read in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ITEMS = 80_000
CHARACTERS = 3_000
SCRIPT = """
import json, sys
from pathlib import Path
import molar_retrieval.data.prepare, molar_retrieval.data.readers, molar_retrieval.data.readers
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.languages import language_of
from molar_retrieval.workspace.artefacts import Workspace
language_of("This loads a model, whose size does not grow with the catalogue.")
folder = Path(sys.argv[1])
workspace = Workspace.for_catalogue(folder / ".molar", folder)
# Not ru_maxrss, which a process inherits from the one that started it.
status = Path("/proc/self/status")
megabytes = lambda: int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
before = megabytes()
facts = prepare_catalogue(folder, workspace).facts
print(json.dumps({"grown": megabytes() - before, "items": facts["items"]}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_much_text_in_one_row_group(tmp_path):
    schema = pa.schema([("item_id", pa.string()), ("title", pa.string()), ("description", pa.string())])
    words = " ".join(["several words that describe a thing"] * (CHARACTERS // 36))
    with pq.ParquetWriter(tmp_path / "items.parquet", schema) as writer:
        ids = [f"{i:07d}" for i in range(ITEMS)]
        described = pa.array([f"{words} {i}" for i in range(ITEMS)])
        table = pa.table([ids, [f"thing {i}" for i in range(ITEMS)], described], schema=schema)
        writer.write_table(table, row_group_size=ITEMS)
    del described, table
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    measured = json.loads(run.stdout)
    assert measured["items"] == ITEMS
    # The descriptions alone are 240 MB, and 480 MB with the rendered texts.
    assert measured["grown"] < 400
