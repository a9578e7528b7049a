"""Time and memory of checking a made-up log of any length.

    python bench/log_check.py [--interactions 50000000] [--users 2000000] [--items 1000000] [--folder .work/bench/log]

Users and items are taken unevenly, as in shops; times rise through the file, as in an export, with some disorder; one
row in a hundred has a fault. The log is written once, as Parquet, and used again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_START, _SPAN = 1_600_000_000, 3 * 365 * 86_400
_PIECE = 1 << 20


def write(folder: Path, interactions: int, users: int, items: int) -> None:
    """A catalogue with the log; nothing happens where it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = folder / "facts.json"
    wanted = {"interactions": interactions, "users": users, "items": items}
    if facts.exists() and json.loads(facts.read_text("utf-8")) == wanted:
        return
    random = np.random.default_rng(0)
    ids = pa.array([f"item-{row:07d}" for row in range(items + items // 100)])
    people = pa.array([f"user-{row:08d}" for row in range(users)])
    pq.write_table(pa.table({"item_id": ids[:items], "title": ids[:items]}), folder / "items.parquet")
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])
    with pq.ParquetWriter(folder / "interactions.parquet", schema) as writer:
        for first in range(0, interactions, _PIECE):
            n = min(_PIECE, interactions - first)
            who = np.minimum((users * random.random(n) ** 2).astype(np.int64), users - 1)
            what = np.minimum((items * random.random(n) ** 3).astype(np.int64), items - 1)
            what = np.where(random.random(n) < 0.005, items + what % (items // 100), what)
            when = _START + (first + np.arange(n)) * _SPAN // interactions + random.integers(-50_000, 50_000, n)
            when = np.where(random.random(n) < 0.005, 0, when)
            columns = [people.take(pa.array(who)), ids.take(pa.array(what)), pa.array(when)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    facts.write_text(json.dumps(wanted), "utf-8")


def check(folder: Path) -> None:
    """Check it in this process and say what that took."""
    from molar_retrieval.data.schema import read_spec
    from molar_retrieval.ids import IdMap
    from molar_retrieval.quality.findings import FindingCollector
    from molar_retrieval.quality.interactions import check_log

    spec = read_spec(folder)
    items = IdMap(pq.read_table(folder / "items.parquet", columns=["item_id"])["item_id"])
    began = time.perf_counter()
    found = FindingCollector()
    summary = check_log(folder, spec, items, found)
    seconds = time.perf_counter() - began
    peak = int(Path("/proc/self/status").read_text("ascii").split("VmHWM:")[1].split()[0]) / 2**20
    print(json.dumps({"seconds": round(seconds, 1), "peak_gb": round(peak, 2), "counts": dict(found.counts)}))
    if summary is not None:
        print("\n".join(summary.lines()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interactions", type=int, default=50_000_000)
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(".work/bench/log"))
    parser.add_argument("--check", action="store_true", help="only check, in this process")
    options = parser.parse_args()
    if options.check:
        check(options.folder)
        return
    write(options.folder, options.interactions, options.users, options.items)
    # A process of its own, so that its peak is that of the check.
    command = [sys.executable, __file__, "--check", "--folder", str(options.folder)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
