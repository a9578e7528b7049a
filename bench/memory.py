"""How much memory each stage takes at its peak: bytes per interaction, person and item, beside what is forecast.

    python bench/memory.py [--stages log,factors,…] [--size 1.0] [--folder .work/bench/memory]
    python bench/memory.py --shop 100000 5000 3000 [--stages counting,publishing]
    python bench/memory.py --ends

Each figure is the slope between two runs, each a process of its own, on made-up logs that differ in one number alone:
interactions, people or items. The forecasts are those of `molar check` (molar_retrieval/memory.py). ``--size`` makes
all numbers larger. With ``--shop`` the peaks of one shop are told, of so many interactions, people and items, without
towers and with vectors of 256 numbers. Peaks are the kernel's (VmHWM), processor seconds those of the larger run.
``--ends`` measures nothing: it says where each stage ends on machines of some sizes, by the forecasts.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from molar_retrieval import memory
from molar_retrieval.collaborative.factors import held_out
from molar_retrieval.config import MolarSettings, SplitSettings
from molar_retrieval.experts.fit import LINEAR, NAMES
from molar_retrieval.experts.linear import MAX_ITEMS
from molar_retrieval.interactions import Holdout
from molar_retrieval.memory import Sizes
from molar_retrieval.workspace import Workspace

_PIECE = 1 << 20
_MACHINES = (8, 24, 64)  # GB
_COMMON = {"interactions": 2_000_000, "people": 100_000, "items": 20_000}
_MORE = {"interactions": 5_000_000, "people": 500_000, "items": 100_000}
_TOWERS = {"interactions": 100_000, "people": 10_000, "items": 20_000}  # as training takes long
_MORE_TOWERS = {"interactions": 300_000, "people": 40_000, "items": 60_000}


def made(folder: Path, sizes: Sizes) -> Path:
    """A catalogue of titles and a log in no order, as Parquet."""
    own = folder / f"{sizes.interactions}-{sizes.people}-{sizes.items}"
    if (own / "items.parquet").exists():
        return own
    own.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    ids = pa.array([f"item {number:09d}" for number in range(sizes.items)])
    people = pa.array([f"a person with a name {number:09d}" for number in range(sizes.people)])
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.timestamp("s"))])
    with pq.ParquetWriter(own / "interactions.parquet", schema) as writer:
        for begin in range(0, sizes.interactions, _PIECE):
            count = min(_PIECE, sizes.interactions - begin)
            # Everybody and everything comes once, then people alike and items by what is bought often.
            who = (begin + np.arange(count)) % sizes.people if begin == 0 else random.integers(0, sizes.people, count)
            what = (sizes.items * random.random(count) ** 2).astype(np.int64)
            when = pa.array(random.integers(1_000_000_000, 1_500_000_000, count)).cast(pa.timestamp("s"))
            rows = [people.take(pa.array(who)), ids.take(pa.array(what)), when]
            writer.write_table(pa.table(rows, schema=schema))
    pq.write_table(pa.table({"item_id": ids, "title": ids}), own / "items.parquet")
    return own


def catalogue(folder: Path, _: Sizes) -> None:
    """What all stages need; not measured."""
    from molar_retrieval.catalog import prepare_catalogue

    prepare_catalogue(folder, _workspace(folder))


def log(folder: Path, _: Sizes) -> None:
    """The log is read, put in order and written."""
    from molar_retrieval.interactions import prepare_interactions

    prepare_interactions(folder, _workspace(folder))


def factors(folder: Path, sizes: Sizes) -> None:
    """ALS; one iteration takes as much memory as fifteen."""
    from molar_retrieval.collaborative.als import fit
    from molar_retrieval.config import CFSettings

    fit(_held_out(folder).training, CFSettings(factors=sizes.factors, iterations=1))


def features(folder: Path, sizes: Sizes) -> None:
    """Vectors in a file are conditioned, beside the log."""
    from molar_retrieval import tensors
    from molar_retrieval.alignment import conditioning
    from molar_retrieval.encoders.base import VectorBlock

    training = _held_out(folder).training
    path = folder / "vectors.safetensors"
    if not path.exists():
        random = np.random.default_rng(0)
        with tensors.TensorsWriter(path) as writer:
            for begin in range(0, sizes.items, 8192):
                shape = min(8192, sizes.items - begin), sizes.vector
                writer.append("vectors", random.standard_normal(shape, np.float32))
    vectors = tensors.mapped(path)["vectors"]
    blocks = VectorBlock.side_by_side({"text": sizes.vector // 2, "image": sizes.vector // 2}.items())
    made = conditioning.fit(vectors, blocks, sizes.features // 2)(vectors)
    assert made.shape == (sizes.items, sizes.features)
    assert len(training)


def towers(folder: Path, sizes: Sizes) -> None:
    """One epoch of training."""
    from molar_retrieval.alignment.training import TrainingData, sized, train
    from molar_retrieval.alignment.validation import ValidationCases
    from molar_retrieval.collaborative.als import ALSFactors
    from molar_retrieval.config import AlignSettings

    holdout, random = _held_out(folder), np.random.default_rng(0)
    people, items = (random.standard_normal((n, sizes.factors), np.float32) for n in (sizes.people, sizes.items))
    own = random.standard_normal((sizes.items, sizes.features), np.float32)
    settings = AlignSettings(epochs=1, dim=sizes.width)
    data = TrainingData(holdout.training, ValidationCases.of(holdout), own, ALSFactors(people, items))
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints:
        train(data, sized(settings, holdout.training), Path(checkpoints), "bench")


def counting(folder: Path, sizes: Sizes) -> None:
    """All experts, with all settings that are tried."""
    from molar_retrieval.alignment.counting import count
    from molar_retrieval.alignment.validation import ValidationCases

    holdout, random = _held_out(folder), np.random.default_rng(0)
    own = random.standard_normal((sizes.items, sizes.features), np.float32)
    count(holdout.training, ValidationCases.of(holdout), own, _settings(sizes).align)


def aligned(folder: Path, sizes: Sizes) -> None:
    """What publishing needs; not measured."""
    from molar_retrieval.alignment.align import align
    from molar_retrieval.alignment.derive import derive
    from molar_retrieval.embedding import embed

    workspace, settings, path = _workspace(folder), _settings(sizes), folder / "vectors.parquet"
    random = np.random.default_rng(0)
    schema = pa.schema([("item_id", pa.string()), ("vector", pa.list_(pa.float32(), sizes.vector))])
    with pq.ParquetWriter(path, schema) as writer:
        for begin in range(0, sizes.items, 8192):
            rows = range(begin, min(begin + 8192, sizes.items))
            numbers = random.standard_normal(len(rows) * sizes.vector, np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers), sizes.vector)
            writer.write_table(pa.table([pa.array([f"item {row:09d}" for row in rows]), vectors], schema=schema))
    embed(workspace, settings.embed, vectors=path)
    align(workspace, settings)
    derive(workspace)


def publishing(folder: Path, sizes: Sizes) -> None:
    """A generation of what was counted, with its graphs and its proof."""
    from molar_indexes.assemble import publish_generation

    publish_generation(_workspace(folder), _settings(sizes).index).close()


def _settings(sizes: Sizes) -> MolarSettings:
    # Vectors from a file are one block; EASE in blocks takes minutes.
    experts = [expert for expert in NAMES if expert != LINEAR or sizes.items <= MAX_ITEMS]
    align = {"preset": "instant", "content_dims": sizes.features, "experts": experts}
    return MolarSettings.model_validate({"align": align, "cf": {"factors": sizes.factors, "iterations": 1}})


def _workspace(folder: Path) -> Workspace:
    return Workspace.for_catalogue(folder / ".molar", folder)


def _held_out(folder: Path) -> Holdout:
    return held_out(_workspace(folder), SplitSettings())


STAGES: dict[str, Callable[[Path, Sizes], None]] = {
    "log": log,
    "factors": factors,
    "features": features,
    "towers": towers,
    "counting": counting,
    "publishing": publishing,
}


TOLD = {
    "log": memory.LOG,
    "factors": memory.FACTORS,
    "features": memory.FEATURES,
    "towers": memory.TOWERS,
    "counting": memory.COUNTING,
    "publishing": memory.PUBLISHING,
}
"""Under which names they are forecast."""


def measured(stage: str, folder: Path, sizes: Sizes) -> tuple[int, float]:
    """Bytes at the peak, and processor seconds, of a stage in a process of its own."""
    command = [sys.executable, __file__, "--child", stage, "--made", str(folder), json.dumps(asdict(sizes))]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, seconds = json.loads(run.stdout.splitlines()[-1])
    return peak, seconds


def child(stage: str, folder: Path, sizes: Sizes) -> None:
    """Run one stage, and print what it took."""
    {**STAGES, "catalogue": catalogue, "aligned": aligned}[stage](folder, sizes)
    status = Path("/proc/self/status").read_text("ascii")  # not ru_maxrss, which begins with that of the parent
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([1024 * int(status.split("VmHWM:")[1].split()[0]), used.ru_utime + used.ru_stime]))


def prepared(folder: Path, sizes: Sizes) -> Path:
    """A made-up catalogue with its log, read into a workspace."""
    own = made(folder, sizes)
    if not (own / ".molar").exists():
        measured("catalogue", own, sizes)
        measured("log", own, sizes)
    return own


def ends() -> Table:
    """Where memory is full: by interactions, of which everybody has 20, of 100,000 items; and by items, of 100 each."""
    table = Table(box=None)
    for column in ("stage", *(f"{size} GB" for size in _MACHINES)):
        table.add_column(column)
    shops: dict[str, Callable[[int], Sizes]] = {
        "interactions": lambda n: Sizes(n, n // 20, 100_000),
        "items": lambda n: Sizes(100 * n, 5 * n, n),
    }
    for stage in TOLD.values():
        for unit, shop in shops.items():
            most = [_most(lambda n, shop=shop, stage=stage: memory.peaks(shop(n))[stage], 1e9 * m) for m in _MACHINES]
            table.add_row(f"{stage}, {unit}", *(f"{number / 1e6:,.1f}M" for number in most))
    return table


def _most(taken: Callable[[int], float], there: float) -> int:
    low, high = 0, 1 << 40
    while high - low > max(1, low // 1000):
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) <= there else (low, middle)
    return low


def shop(folder: Path, sizes: Sizes, stages: list[str]) -> None:
    """Say what the stages take at their peaks, beside what is forecast."""
    print(f"{sizes.interactions:,} interactions, {sizes.people:,} people, {sizes.items:,} items")
    for stage in stages:
        taken, seconds = _fresh(stage, folder, sizes)
        told = memory.peaks(sizes)[TOLD[stage]]
        print(
            f"{stage}: {taken / 1e6:,.0f} MB, forecast {told / 1e6:,.0f} MB ({told / taken - 1:+.0%}), {seconds:.0f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=lambda named: named.split(","))
    parser.add_argument("--size", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path(".work/bench/memory"))
    parser.add_argument("--shop", type=int, nargs=3, metavar=("INTERACTIONS", "PEOPLE", "ITEMS"))
    parser.add_argument("--ends", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--made", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("sizes", nargs="?", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.made, Sizes(**asked.sizes))
        return
    if asked.shop:
        without = [stage for stage in STAGES if stage != "towers"]
        shop(asked.folder, Sizes(*asked.shop, features=256, vector=256, width=0), asked.stages or without)
        return
    if asked.ends:
        Console(highlight=False, width=120).print(ends())
        return
    table = Table(box=None)
    for column in ("stage", "more", "from", "to", "peak", "s", "bytes each", "forecast", "peak forecast"):
        table.add_column(column, justify="left" if column in ("stage", "more") else "right")
    for stage in asked.stages or STAGES:
        few, many = (_TOWERS, _MORE_TOWERS) if stage == "towers" else (_COMMON, _MORE)
        small = Sizes(**{unit: int(asked.size * number) for unit, number in few.items()})
        if stage == "publishing":  # without towers, which take long to train
            small = replace(small, width=0)
        for unit, number in many.items():
            large = replace(small, **{unit: int(asked.size * number)})
            (least, _), (most, seconds) = (_fresh(stage, asked.folder, sizes) for sizes in (small, large))
            units = getattr(large, unit) - getattr(small, unit)
            least_told, told = (memory.peaks(sizes)[TOLD[stage]] for sizes in (small, large))
            row = [stage, unit, f"{getattr(small, unit):,}", f"{getattr(large, unit):,}", f"{most / 2**20:,.0f} MiB"]
            row += [f"{seconds:.0f}", f"{(most - least) / units:,.1f}", f"{(told - least_told) / units:,.1f}"]
            table.add_row(*row, f"{told / 2**20:,.0f} MiB")
            print(*row, f"{told / 2**20:,.0f} MiB", sep="  ", flush=True)
    Console(highlight=False, width=120).print(table)


def _fresh(stage: str, folder: Path, sizes: Sizes) -> tuple[int, float]:
    own = prepared(folder, sizes)
    if stage == "log":
        shutil.rmtree(own / ".molar/interactions")
    if stage == "publishing":
        if not (own / ".molar/alignment").exists():
            measured("aligned", own, sizes)
        shutil.rmtree(own / ".molar/generations", ignore_errors=True)
    return measured(stage, own, sizes)


if __name__ == "__main__":
    main()
