"""How long the user encoder takes for one history, beside torch; and `molar query --session` as a whole process.

OMP_NUM_THREADS=1 python bench/user_encoder.py WORKSPACE [--histories N]
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from query import process
from rich.console import Console
from rich.table import Table

from molar_indexes.recommender import Recommender
from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.als import open_log
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.store import open_model
from molar_retrieval.models.towers.inference import UserEncoder
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.threads import keep_freed_memory

LENGTHS = (1, 20, 200)
_PROCESSES, _COMPARED = 9, 100


def histories(log: Interactions, length: int, count: int) -> npt.NDArray[np.int64]:
    """Rows of the log at which histories of this length begin, one each of some users who have one."""
    able = np.flatnonzero(np.diff(log.offsets) >= length)
    chosen = rng.generator(0, "user encoder").permutation(able)[:count]
    return log.offsets[chosen + 1] - length


def milliseconds(ask: Callable[[int], object], begins: npt.NDArray[np.int64]) -> list[str]:
    """The fastest, the median and the 99th percentile."""
    ask(int(begins[0]))
    taken = []
    for begin in begins.tolist():
        began = time.perf_counter()
        ask(begin)
        taken.append(1000 * (time.perf_counter() - began))
    return [f"{value:.2f}" for value in np.quantile(taken, (0, 0.5, 0.99))]


def encoders(workspace: Workspace, count: int) -> Table:
    """Times of one history by its length, and the largest difference of a number of the dense vector."""
    folder, log = workspace["alignment"].require()[0], open_log(workspace)
    model, light = replace(open_model(folder), precision="float32"), UserEncoder.open(folder)
    shapes = ", ".join(f"{name} {shape.dim} × {shape.blocks}" for name, shape in model.network.shapes.items())
    table = Table("history", "by", "fastest, ms", "median, ms", "99 %, ms", "difference", title=shapes, box=None)
    for length in LENGTHS:
        begins = histories(log, length, count)
        if len(begins):
            numpy, network = partial(_light, light, log, length), partial(_network, model, log, length)
            far = max(float(np.abs(numpy(begin) - network(begin)).max()) for begin in begins[:_COMPARED].tolist())
            table.add_row(str(length), "NumPy", *milliseconds(numpy, begins), f"{far:.0e}")
            table.add_row("", "torch", *milliseconds(network, begins))
    return table


def _light(encoder: UserEncoder, log: Interactions, length: int, begin: int) -> npt.NDArray[np.float32]:
    own = slice(begin, begin + length)
    return encoder.encode(log.item[own], log.timestamp[own])[0]


def _network(model: Ensemble, log: Interactions, length: int, begin: int) -> npt.NDArray[np.float32]:
    own = slice(begin, begin + length)
    more = {"offsets": np.array([0, length]), "weight": None, "strength": None}
    alone = replace(log, item=log.item[own], timestamp=log.timestamp[own], **more)
    return model.users(alone, np.zeros(1, np.int64)).dense[0]


def processes(workspace: Path) -> Table:
    """Seconds and memory of a whole `molar query`, by session and by user."""
    with Recommender.open(workspace) as recommender:
        user = next(u for batch in recommender.generation.users.batches() for u in batch if len(u.history) >= 3)
        items = ",".join(recommender.generation.table.item_id(row) for row in user.history[-3:])
    table = Table("process", "best, s", "MB", box=None)
    molar = Path(sys.executable).with_name("molar")
    for name, value in (("--session", items), ("--user", user.user_id)):
        runs = [process([molar, "query", name, value, "--workspace", workspace]) for _ in range(_PROCESSES)]
        table.add_row(f"molar query {name}", f"{min(s for s, _ in runs):.2f}", f"{min(m for _, m in runs):.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--histories", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    console = Console(highlight=False)
    console.print(encoders(Workspace.open(arguments.workspace), arguments.histories))
    console.print(processes(arguments.workspace))


if __name__ == "__main__":
    main()
