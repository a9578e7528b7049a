"""What it costs that no pair of items and no popularity rests on fewer people than `[privacy] min_users`.

    python bench/small_numbers.py CATALOGUE WORKSPACE [--split leave-one-out] [--preset instant] [--least 1,2,3,5,10]

The workspace has content vectors; nothing in it is changed. Of each setting NDCG@10 on the test cases, and the
difference to the first one with an interval of 95 %, people drawn as a whole (bootstrap-t); p by sign flips of them.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

import molar
from molar_eval.model_runs import FOLDER, CaseScores, read_scores
from molar_eval.statistics import clustered_intervals, paired_permutation

METRIC = "ndcg@10"
SUITE = """description = "What small numbers cost"
candidates = "log"
models = ["{model}"]

[[splits]]
split = "{split}"
"""


def scores(catalogue: Path, workspace: Path, folder: Path, split: str, preset: str, least: int) -> CaseScores:
    """Of every case of the test."""
    model = f"molar ({preset})"
    suite, settings = folder / "suite.toml", folder / f"{least}.toml"
    suite.write_text(SUITE.format(model=model, split=split), "utf-8")
    settings.write_text(f"[privacy]\nmin_users = {least}\n", "utf-8")
    shop = molar.Shop(catalogue, workspace, settings)
    run = Path(shop.evaluate(str(suite), seeds=1, out=folder / f"run-{least}").folder)
    return read_scores(next((run / FOLDER).glob("*/*/seed-0.parquet")))


def main() -> None:
    """Evaluate with each setting, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--split", default="leave-one-out")
    parser.add_argument("--preset", default="instant")
    parser.add_argument("--least", default="1,2,3,5,10")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=said.workspace.parent) as name:
        folder = Path(name)
        copy = folder / ".molar"
        shutil.copytree(said.workspace, copy, symlinks=True, copy_function=os.link)
        first = None
        print(f"| least | {METRIC} | difference | interval of 95 % | p |\n|---:|---:|---:|---|---:|")
        for least in map(int, said.least.split(",")):
            found = scores(said.catalogue, copy, folder, said.split, said.preset, least)
            values = found.values[:, [found.metrics.index(METRIC)]].astype(np.float64)
            if first is None:
                first = values
                print(f"| {least} | {values.mean():.4f} | – | – | – |", flush=True)
                continue
            (change,) = clustered_intervals(values - first, found.users())
            (p,) = paired_permutation(values - first, found.users())
            share = change.mean / first.mean()
            ends = f"{change.low:+.4f} to {change.high:+.4f}"
            print(
                f"| {least} | {values.mean():.4f} | {change.mean:+.4f} ({share:+.1%}) | {ends} | {p:.3f} |", flush=True
            )


if __name__ == "__main__":
    main()
