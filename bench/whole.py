"""A made-up shop of any size from its files to its answers on this machine: minutes and memory of each command.

    python bench/whole.py [--shop 50000000 2500000 1000000] [--preset instant] [--folder .work/bench/whole]

So many interactions, people and items, with vectors of 256 numbers in a file, go through `molar embed --vectors` and
`molar align`, which counts, fits ALS and publishes; then people are asked for lists, in this process. Items are in
groups of 40, whose vectors are alike and of which some are in demand; somebody takes of one group, later of another,
then of a third, and one time in three anything at all, which makes partners of items of different groups. The log is in
no order. These files are made once; the workspace is made anew. Memory is that of all processes of a command together,
looked at every half second: what is not mapped from files, which the system cannot take back, and the whole.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from molar_indexes.recommender import Recommender

_PIECE = 1 << 20
_GROUP, _WIDTH, _NOISE = 40, 256, 0.7
_BEGIN, _END = 1_400_000_000, 1_500_000_000
_TURNS, _ANYTHING = 3, 1 / 3
_EVERY = 0.5
_ASKED = 300


def made(folder: Path, interactions: int, people: int, items: int) -> Path:
    """A catalogue of titles, its log and `vectors.parquet`."""
    own = folder / f"{interactions}-{people}-{items}"
    if (own / "items.parquet").exists():
        return own
    own.mkdir(parents=True, exist_ok=True)
    random, groups = np.random.default_rng(0), -(-items // _GROUP)
    ids = pa.array([f"item {number:09d}" for number in range(items)])
    names = pa.array([f"a person with a name {number:09d}" for number in range(people)])
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.timestamp("s"))])
    with pq.ParquetWriter(own / "interactions.parquet", schema) as writer:
        for begin in range(0, interactions, _PIECE):
            count = min(_PIECE, interactions - begin)
            who, when = random.integers(0, people, count), random.random(count)
            group = (who * 7919 + (_TURNS * when).astype(np.int64) * 104_729) % groups
            usual = np.minimum(group * _GROUP + (_GROUP * random.random(count) ** 2).astype(np.int64), items - 1)
            anything = (items * random.random(count) ** 2).astype(np.int64)
            what = np.where(random.random(count) < _ANYTHING, anything, usual)
            moments = pa.array((_BEGIN + when * (_END - _BEGIN)).astype(np.int64)).cast(pa.timestamp("s"))
            rows = [names.take(pa.array(who)), ids.take(pa.array(what)), moments]
            writer.write_table(pa.table(rows, schema=schema))
    centres = random.standard_normal((groups, _WIDTH), np.float32)
    schema = pa.schema([("item_id", pa.string()), ("vector", pa.list_(pa.float32(), _WIDTH))])
    with pq.ParquetWriter(own / "vectors.parquet", schema) as writer:
        for begin in range(0, items, 8192):
            some = np.arange(begin, min(begin + 8192, items))
            vectors = centres[some // _GROUP] + _NOISE * random.standard_normal((len(some), _WIDTH), np.float32)
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), _WIDTH)
            writer.write_table(pa.table([ids.take(pa.array(some)), column], schema=schema))
    pq.write_table(pa.table({"item_id": ids, "title": ids}), own / "items.parquet")
    return own


def family(pid: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in thread.read_text("ascii").split():
            yield from family(int(child))


def held(pid: int) -> tuple[int, int]:
    """Bytes that a process and its own have now: not mapped from files, and in all."""
    own = whole = 0
    for one in family(pid):
        try:
            status = Path(f"/proc/{one}/status").read_text("ascii", "replace")
            own += 1024 * int(status.split("RssAnon:")[1].split()[0])
            whole += 1024 * int(status.split("VmRSS:")[1].split()[0])
        except (OSError, IndexError):  # it has ended
            continue
    return own, whole


def run(command: list[str]) -> tuple[float, float, int, int]:
    """Seconds by the clock and of the processors, and bytes at the peak, of a command."""
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), [0, 0]
    process, ended = subprocess.Popen([Path(sys.executable).with_name("molar"), *command]), threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY):
            try:
                now = held(process.pid)
            except OSError:
                continue
            peak[:] = map(max, peak, now)

    watching = threading.Thread(target=watch)
    watching.start()
    code = process.wait()
    ended.set()
    watching.join()
    if code:
        raise SystemExit(f"molar {' '.join(command)} ended with {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, processor, peak[0], peak[1]


def asked(workspace: Path) -> str:
    """How long answers take, of people of the generation in no order."""
    with Recommender.open(workspace) as recommender:
        users = recommender.generation.users
        places = np.random.default_rng(0).integers(0, len(users), _ASKED).tolist()
        people = [users.between(place, place + 1)[0].user_id for place in places]
        seconds = []
        for user_id in people:
            began = time.perf_counter()
            recommender.query(user_id)
            seconds.append(time.perf_counter() - began)
    first, later = seconds[0], np.array(seconds[1:]) * 1000
    return f"a query: {np.median(later):.1f} ms, 99 % within {np.quantile(later, 0.99):.0f}; the first {first:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shop", type=int, nargs=3, default=[50_000_000, 2_500_000, 1_000_000])
    parser.add_argument("--preset", default="instant")
    parser.add_argument("--folder", type=Path, default=Path(".work/bench/whole"))
    options = parser.parse_args()
    shop = made(options.folder, *options.shop)
    workspace = shop / ".molar"
    shutil.rmtree(workspace, ignore_errors=True)
    table = Table(box=None)
    for column in ("command", "min", "processor min", "GB not mapped", "GB in all"):
        table.add_column(column, justify="left" if column == "command" else "right")
    total = 0.0
    for command in (
        ["embed", str(shop), "--vectors", str(shop / "vectors.parquet"), "--workspace", str(workspace)],
        ["align", "--preset", options.preset, "--workspace", str(workspace)],
    ):
        seconds, processor, own, whole = run(command)
        total += seconds
        row = f"{seconds / 60:.1f}", f"{processor / 60:.1f}", f"{own / 1e9:.2f}", f"{whole / 1e9:.2f}"
        table.add_row(f"molar {command[0]}", *row)
        print(f"molar {command[0]}", *row, flush=True)
    table.add_row("all", f"{total / 60:.1f}", "", "", "")
    counts = "{:,} interactions, {:,} people, {:,} items".format(*options.shop)
    print(f"{counts}, {os.cpu_count()} cores")
    Console(highlight=False).print(table)
    print(asked(workspace))


if __name__ == "__main__":
    main()
