"""Latency and memory of `molar query`: as a whole process beside a bare script, and in process beside exact search.

The bare script imports what any command-line tool of this kind imports (typer, rich), opens the very same shard and
asks it once; the ratio says what everything else costs.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from molar_indexes.backends import build_index, open_index
from molar_indexes.recommender import Recommender
from molar_retrieval import columns, rng
from molar_retrieval.index import IndexItem
from molar_retrieval.progress import SILENT

BARE = """
import json, sys
import typer, rich.console, rich.table
from qdrant_edge import EdgeShard, Query, SearchRequest
shard = EdgeShard.load(sys.argv[1])
query = json.loads(open(sys.argv[2]).read())
hits = shard.search(SearchRequest(query=Query.Nearest(query, using="aligned"), limit=10, with_payload=True))
table = rich.table.Table("item", "score")
for hit in hits:
    table.add_row(str(hit.id), f"{hit.score:.3f}")
rich.console.Console().print(table)
"""


LAUNCHER = """
import json, os, subprocess, sys, time
began = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
child.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps([child.returncode, time.perf_counter() - began, usage.ru_maxrss / 1024]))
"""


def process(command: Sequence[str | Path]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of one run of a command.

    A small launcher in between, as the peak of a child starts with that of its parent.
    """
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *map(str, command)]
    code, seconds, memory = json.loads(subprocess.run(launcher, capture_output=True, text=True, check=True).stdout)
    if code:
        raise SystemExit(f"{command} failed with {code}")
    return seconds, memory


def processes(workspace: Path, user_id: str, runs: int) -> dict[str, tuple[float, float]]:
    """Median seconds and memory of `molar query` and of the bare script, run in turns."""
    with Recommender.open(workspace) as recommender, tempfile.TemporaryDirectory() as folder:
        user = recommender.generation.users.get(user_id)
        shard = recommender.generation.folder / "index" / "shard"
        script, vector = Path(folder) / "bare.py", Path(folder) / "vector.json"
        script.write_text(BARE)
        vector.write_text(json.dumps(list(user.vector)))
        molar = [Path(sys.executable).with_name("molar"), "query", "--user", user_id, "--workspace", workspace]
        commands = {"molar query": molar, "bare script": [sys.executable, script, shard, vector]}
        for command in commands.values():
            process(command)  # warms the page cache
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                results[name].append(process(command))
    return {n: (statistics.median(s for s, _ in r), statistics.median(m for _, m in r)) for n, r in results.items()}


def latency(ask: Callable[[str], object], users: Sequence[str]) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds."""
    taken = []
    for user in users:
        began = time.perf_counter()
        ask(user)
        taken.append(1000 * (time.perf_counter() - began))
    return float(np.median(taken)), float(np.quantile(taken, 0.99))


def in_process(workspace: Path, samples: int) -> dict[str, tuple[float, float]]:
    """Latency of the recommender on the served index, and of the exact index on the same vectors."""
    with Recommender.open(workspace) as recommender, tempfile.TemporaryDirectory() as folder:
        generation = recommender.generation
        known = [record for batch in generation.users.batches() for record in batch if len(record.history)]
        chosen = rng.generator(0, "bench").choice(len(known), min(samples, len(known)), replace=False)
        users = [known[i].user_id for i in chosen]
        for user in users[:20]:
            recommender.query(user)
        served = latency(recommender.query, users)
        names = list(generation.index.spec.dims)
        hits = generation.index.fetch(range(len(generation.index)), vectors=names)
        items = (IndexItem(h.row, h.item_id, h.vectors, h.payload) for h in hits)
        build_index(Path(folder) / "exact", "exact", generation.index.spec, items, SILENT)
        exact = open_index(Path(folder) / "exact", "exact", generation.index.spec)
        by_id = {known[i].user_id: known[i] for i in chosen}

        def scan(user: str) -> object:
            record = by_id[user]
            return exact.search(columns.ALIGNED, record.vector, 10, exclude=record.history, vectors=[columns.ALIGNED])

        result = {"molar, seen hidden, parts": served, "exact scan (NumPy)": latency(scan, users)}
        exact.close()
    return result
