"""Latency and memory of `molar query`: as a whole process beside a bare script, and in process beside exact search.

The bare script imports what any command-line tool of this kind imports (typer, rich), opens the very same shard and
asks it once; the ratio says what everything else costs.

``OMP_NUM_THREADS=1 python bench/query.py path/to/.molar`` tells what an answer takes of the processor, what one of many
lists at once takes, how many users a second `molar recommend` makes lists for, and what each takes of the processors.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from molar_indexes import equal_lengths
from molar_indexes.recommender import Recommender
from molar_indexes.users import UserRecord
from molar_retrieval import columns, rng
from molar_retrieval.ranking.candidates import find, products, source_of
from molar_retrieval.ranking.query import Query, ResolvedQuery
from molar_retrieval.ranking.reranker import CANDIDATES
from molar_retrieval.workspace.threads import keep_freed_memory

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
        vector.write_text(json.dumps(equal_lengths.asked(recommender.generation.spec, columns.ALIGNED, user.vector)))
        molar = [Path(sys.executable).with_name("molar"), "query", "--user", user_id, "--workspace", workspace]
        commands = {"molar query": molar, "bare script": [sys.executable, script, shard, vector]}
        for command in commands.values():
            process(command)  # warms the page cache
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                results[name].append(process(command))
    return {n: (statistics.median(s for s, _ in r), statistics.median(m for _, m in r)) for n, r in results.items()}


class Latency(NamedTuple):
    """What answers take, in milliseconds."""

    median: float
    worst: float  # the 99th percentile
    cpu: float  # of the processor, on average


def latency(ask: Callable[[str], object], users: Sequence[str]) -> Latency:
    """What is taken for each of some users."""
    taken, cpu = [], time.process_time()
    for user in users:
        began = time.perf_counter()
        ask(user)
        taken.append(1000 * (time.perf_counter() - began))
    cpu = 1000 * (time.process_time() - cpu) / len(users)
    return Latency(float(np.median(taken)), float(np.quantile(taken, 0.99)), cpu)


def in_process(workspace: Path, samples: int) -> dict[str, Latency]:
    """Latency of lists of ten with seen items hidden: plain, with everything that may follow, and by exact scans."""
    keep_freed_memory()  # as a process that serves does
    with Recommender.open(workspace) as plain, tempfile.TemporaryDirectory() as folder:
        generation = plain.generation
        known = [record for batch in generation.users.batches() for record in batch if len(record.history)]
        chosen = rng.generator(0, "bench").choice(len(known), min(samples, len(known)), replace=False)
        by_id = {known[i].user_id: known[i] for i in chosen}
        users, rules = list(by_id), Path(folder) / "rules.toml"
        field = next((name for name, kind in generation.spec.fields.items() if kind == "keyword"), None)
        rules.write_text("" if field is None else f"[[rule]]\nat_most = 3\nper = {json.dumps(field)}\n")
        table = generation.table.items
        with Recommender.open(workspace, rules=rules) as shaped:
            asks: dict[str, Callable[[str], object]] = {
                "molar, by score": lambda user: plain.query(user, rerank=False),
                "molar, second stage": plain.query,
                "molar, second stage, reasons": lambda user: plain.query(user, explain=True),
                "molar, second stage, a rule, diversity, reasons": lambda user: shaped.query(
                    user, diversity=0.3, explain=True
                ),
                "exact scan of the dense vectors (NumPy)": lambda user: _scan(by_id[user], table.dense),
            }
            for ask in asks.values():
                for user in users[:20]:
                    ask(user)
            return {name: latency(ask, users) for name, ask in asks.items()}


def candidate_recall(workspace: Path, samples: int) -> float:
    """Share of the best sums over all known items that are among a query's 200 candidates; seen items hidden.

    Newcomers have some of the 200 places; so many of the best known items are wanted as there are others.
    """
    with Recommender.open(workspace) as recommender:
        generation = recommender.generation
        table = generation.table.items
        known = [record for batch in generation.users.batches() for record in batch if len(record.history)]
        chosen = rng.generator(0, "recall").choice(len(known), min(samples, len(known)), replace=False)
        found = []
        for user in (known[i] for i in chosen):
            rest = np.setdiff1d(np.flatnonzero(table.known), np.asarray(user.history))
            sums = table.split(user.vector, user.sparse, rest).sum(axis=1)
            request = ResolvedQuery(Query(), user, hidden=frozenset(user.history))
            (dense,) = products(table, [request])
            source = source_of(generation.index, table, request, dense)
            got = find(generation.index, (), source, request, CANDIDATES)
            others = set(got.rows[~got.cold].tolist())
            best = set(rest[np.argsort(-sums, kind="stable")[: len(others)]].tolist())
            found.append(len(best & others) / max(1, len(best)))
        return float(np.mean(found))


def _scan(user: UserRecord, dense: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    scores = dense @ np.asarray(user.vector, np.float32)
    scores[np.asarray(user.history, np.int64)] = -np.inf
    best = np.argpartition(-scores, 10)[:10]
    return best[np.argsort(-scores[best])]


def at_once(workspace: Path, size: int = 250) -> list[float]:
    """Milliseconds of the processor for each list, of so many people asked about at once, until all were."""
    taken = []
    with Recommender.open(workspace) as recommender:
        for users in recommender.generation.users.batches(size):
            began = time.process_time()
            list(recommender.rank_many(users, Query()))
            taken.append(1000 * (time.process_time() - began) / len(users))
    return taken[1:] or taken  # the first ones also load what all need


def throughput(workspace: Path) -> float:
    """Users a second of `molar recommend` on all cores, without what starting costs."""
    return recommended(workspace)[0]


def recommended(workspace: Path) -> tuple[float, float]:
    """The same, and milliseconds of the processors for each user, with what starting costs."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "all.parquet"
        command = [str(Path(sys.executable).with_name("molar")), "recommend", "-o", str(target), "-w", str(workspace)]
        started = time.perf_counter()
        subprocess.run([*command, "--help"], check=True, capture_output=True)
        bare = time.perf_counter() - started
        started, before = time.perf_counter(), os.times()
        done = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
        took, after = time.perf_counter() - started, os.times()
        users: int = json.loads(done.stdout)["users"]
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        return users / (took - bare), 1000 * spent / users


if __name__ == "__main__":
    for name, took in in_process(Path(sys.argv[1]), 500).items():
        print(f"{name}: {took.cpu:.2f} ms of the processor")
    each = at_once(Path(sys.argv[1]))
    print(f"many lists at once: {np.median(each):.2f} ms of the processor for each, {min(each):.2f} at the least")
    rate, milliseconds = recommended(Path(sys.argv[1]))
    print(f"molar recommend: {rate:,.0f} users/s, {milliseconds:.2f} ms of the processors for each")
