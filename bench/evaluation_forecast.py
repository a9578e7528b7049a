"""How far what `molar evaluate --dry-run` tells is from what the run then takes; docs/operations.md has the outcome.

The suite is run for three quarters of the people of a catalogue, then for all of them, and once more: before each run
it is foretold by the one before. Vectors are drawn at random, as encoding is no part of it.

    python bench/evaluation_forecast.py path/to/catalogue FOLDER [--suite temporal] [--model EASE …]
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import molar

RUNS = (("first", 0.75), ("a third more people", 1.0), ("the same again", 1.0))


def write_vectors(items: Path, path: Path) -> None:
    ids = pq.read_table(items, columns=["item_id"])["item_id"]
    matrix = np.random.default_rng(0).normal(size=(len(ids), 16)).astype(np.float32)
    pq.write_table(pa.table({"item_id": ids, "vector": pa.array(list(matrix), pa.list_(pa.float32()))}), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--model", action="append", default=[])
    chosen = parser.parse_args()
    here = chosen.folder / "shop"
    shutil.copytree(chosen.catalogue, here, ignore=shutil.ignore_patterns("images"), copy_function=shutil.copyfile)
    write_vectors(here / "items.parquet", chosen.folder / "vectors.parquet")
    log = pq.read_table(here / "interactions.parquet")
    users = np.random.default_rng(0).permutation(pc.unique(log["user_id"]).to_numpy(zero_copy_only=False))
    shop = molar.Shop(here, chosen.folder / ".molar")
    for name, part in RUNS:
        some = pc.is_in(log["user_id"], pa.array(users[: round(len(users) * part)]))
        pq.write_table(log.filter(some), here / "interactions.parquet")
        shop.embed(vectors=chosen.folder / "vectors.parquet")
        foretold = shop.evaluation_forecast(chosen.suite, models=chosen.model)
        shop.evaluate(chosen.suite, models=chosen.model, tell=lambda _: None)
        for kept in ("trials", "models", "content"):
            shutil.rmtree(shop.workspace / "evaluation" / kept, ignore_errors=True)
        taken = shop.evaluation_forecast(chosen.suite, models=chosen.model)  # of as many, so what the last run took
        print(f"\n{name}: {foretold.interactions:,} interactions")
        for before, after in zip((*foretold.trials, None), (*taken.trials, None), strict=True):
            said = foretold.rest if before is None else before.expected
            took = taken.rest if after is None else after.expected
            what = "splits, figures and the report" if before is None else f"{before.split}: {before.model}"
            if took is not None:
                told = "unknown" if said is None else f"{said.took.processor / max(took.took.processor, 0.01):.2f}"
                print(f"{what:50} {took.took.processor:8.2f} s of the processors, forecast by taken {told}")
        if foretold.whole:
            ratio = (foretold.bill.processor or 0) / (taken.bill.processor or 1)
            clock = foretold.bill.seconds / taken.bill.seconds
            print(f"{'all':50} {taken.bill.processor:8.2f} s, forecast by taken {ratio:.2f}, by the clock {clock:.2f}")


if __name__ == "__main__":
    main()
