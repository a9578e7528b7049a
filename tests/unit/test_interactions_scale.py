"""A large log is read in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

ROWS = 2_000_000
SCRIPT = """
import json, sys
from pathlib import Path
import molar_retrieval.data.readers, molar_retrieval.data.prepare_interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.workspace.artefacts import Workspace
folder = Path(sys.argv[1])
workspace = Workspace.for_catalogue(folder / ".molar", folder)
prepare_catalogue(folder, workspace)
# Not ru_maxrss, which a process inherits from the one that started it.
status = Path("/proc/self/status")
megabytes = lambda: int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
before = megabytes()
facts = prepare_interactions(folder, workspace).facts
print(json.dumps({"grown": megabytes() - before, **{k: facts[k] for k in ("interactions", "users", "rejects")}}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_two_million_rows_of_csv(tmp_path):
    random = np.random.default_rng(0)
    items, users = 20_000, 50_000
    (tmp_path / "items.csv").write_text("item_id,title\n" + "\n".join(f"{i:06d},t" for i in range(items)))
    taken = pa.array([f"{i:06d}" for i in range(items + 1)]).take(pa.array(random.integers(0, items + 1, ROWS)))
    people = pa.array([f"a-user-with-a-long-name-{i:06d}" for i in range(users)])
    who = people.take(pa.array(np.concatenate([np.arange(users), random.integers(0, users, ROWS - users)])))
    when = pa.array(random.integers(1_000_000_000, 1_500_000_000, ROWS)).cast(pa.timestamp("s"))
    table = pa.table({"user_id": who, "item_id": taken, "timestamp": when})
    pa_csv.write_csv(table, tmp_path / "interactions.csv")
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    measured = json.loads(run.stdout)
    assert measured["users"] <= users
    assert measured["interactions"] + measured["rejects"] == ROWS
    assert measured["rejects"] > 0
    # As Python objects the rows would take some 500 MB, as Arrow strings 140 MB before they are sorted.
    assert measured["grown"] < 300
