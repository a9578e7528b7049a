"""What counting takes for a log of any length: seconds of the processor and bytes an interaction, each step by itself.

    python bench/counting.py [--interactions 7000000 --items 200000 --mean 50] [--steps co-occurrence,item-kNN]

The log is made up (`block_ease.py`). Each step runs in a process of its own, so that its peak is its own; the log is in
it too, with some 30 bytes an interaction, and told first. Large weights lie in files, as `molar align` has
them. 50 million interactions of a million items: ``--interactions 50000000 --items 1000000``.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from block_ease import NEIGHBORS, made_up

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap
from molar_retrieval.models import base
from molar_retrieval.models.ease import BlockEASE
from molar_retrieval.models.item_item import InteractionMatrix
from molar_retrieval.models.k_anonymity import KAnonymity
from molar_retrieval.models.sequential import count_transitions
from molar_retrieval.workspace.resources import Timer, Took

COOCCURRENCE, UNORDERED, ITEM_KNN, FEW = STEPS = ("co-occurrence", "unordered", "item-kNN", "pairs of few")
EASE = "EASE"
"""In blocks; it takes minutes."""


def opened(folder: Path) -> Interactions:
    """The log without names: users and items are numbers."""
    offsets, item = (np.load(folder / f"{name}.npy") for name in ("offsets", "item"))
    return Interactions(Numbers(len(offsets) - 1), Numbers(int(item.max()) + 1), offsets, item, np.zeros(0, np.int64))


class Numbers(IdMap):
    """As many items, of which nothing is asked but how many they are."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


def step(folder: Path, name: str) -> None:
    """Do one step and say what it took."""
    log = opened(folder)
    before, watch = _peak(), Timer()
    if name in (COOCCURRENCE, UNORDERED):
        setting = {"model": base.COOCCURRENCE, **base.COUNTS[1 if name == COOCCURRENCE else 2]}
        counts = count_transitions(log, setting["window"], setting["decay"])
        made = base.sequence(log, counts, setting, NEIGHBORS, None, folder).weights.nnz
    elif name == ITEM_KNN:
        made = base.item_neighbours(log, base.NEIGHBOURS, NEIGHBORS, None, folder).weights.nnz
    elif name == EASE:
        blocks = BlockEASE.of(InteractionMatrix.of(log), base.BLOCKS[0]["n_neighbors"])
        print(f"| grouping for EASE | {_line(watch.took)} | | | | |", flush=True)
        watch = Timer()
        made = base.block_ease(blocks, base.BLOCKS[0], NEIGHBORS, 1, folder).weights.nnz
    else:
        few = KAnonymity.of(log, 3)
        made = 0 if few is None else round(100 * few.share)
    took, grown = watch.took, _peak() - before
    each = (took.processor / len(log) * 1e6, grown / len(log))
    print(
        f"| {name} | {_line(took)} | {each[0]:.2f} | {grown / 1e9:.2f} | {each[1]:.0f} | {made:,} |",
        flush=True,
    )


def _line(took: Took) -> str:
    return f"{took.processor:.1f} | {took.seconds:.1f}"


def _peak() -> int:
    """Bytes that this process had at most; what `getrusage` says begins with those of the one that started it."""
    return int(Path("/proc/self/status").read_text("ascii").split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """Make the log up and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interactions", type=int, default=7_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--mean", type=float, default=50, help="interactions of a user, about")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.of:
        step(Path(asked.of[0]), asked.of[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        # What a user takes twice is left out: a seventh of it.
        log = made_up(int(1.3 * asked.interactions / asked.mean), asked.items, asked.mean)
        np.save(Path(folder) / "offsets.npy", log.offsets)
        np.save(Path(folder) / "item.npy", log.item)
        print(f"{len(log):,} interactions of {log.n_users:,} users, {asked.items:,} items\n")
        del log
        print("| step | processor, s | by the clock, s | µs an interaction | GB | bytes an interaction | weights |")
        print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
        for name in asked.steps.split(","):
            subprocess.run([sys.executable, __file__, "--of", folder, name], check=True)


if __name__ == "__main__":
    main()
