"""What `molar align --dry-run` says beforehand, beside what `molar align` then takes, by preset; or `molar evaluate`.

    python bench/forecast.py ml-1m/ WORKSPACE --presets instant,fast
    python bench/forecast.py ml-1m/ WORKSPACE --suite temporal --models "popularity,EASE,molar (instant)"

The workspace needs content vectors (`molar embed ml-1m/ --workspace WORKSPACE`); it is copied, and stays as it is.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import molar
from molar_retrieval.timer import Timer, timed


def main() -> None:
    """Print a line for each preset, or one for the suite."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--presets", default="instant,fast")
    parser.add_argument("--suite", help="name or file of a suite: what evaluating it takes, in place of aligning")
    parser.add_argument("--models", default="", help="only these models of the suite")
    asked = parser.parse_args()
    head = "suite" if asked.suite else "preset"
    print(f"| {head} | forecast, s | processors, s | taken, s | processors, s | forecast by taken | to find out, s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        if asked.suite:
            shop = copied(asked, Path(folder) / "evaluated", "interactions")
            suite, models = asked.suite, [name for name in asked.models.split(",") if name]
            measured(
                f"{suite}: {asked.models}" if models else suite,
                partial(shop.evaluation_forecast, suite, models=models),
                partial(evaluated, shop, suite, models),
            )
            return
        for preset in asked.presets.split(","):
            shop = copied(asked, Path(folder) / preset)
            measured(preset, partial(shop.align_forecast, preset=preset), partial(shop.align, preset=preset))


def copied(asked: argparse.Namespace, place: Path, *kinds: str) -> molar.Shop:
    """A shop in a copy of the workspace."""
    for kind in ("catalogue", "content", *kinds):
        shutil.copytree(asked.workspace / kind, place / kind)
    shutil.copyfile(asked.workspace / "workspace.json", place / "workspace.json")
    shop = molar.Shop(asked.catalogue, place)
    shop.embed()  # up to date
    return shop


def evaluated(shop: molar.Shop, suite: str, models: list[str]) -> None:
    """Evaluate by the command, which loads its libraries."""
    named = [word for model in models for word in ("--model", model)]
    command = [sys.executable, "-c", "from molar_cli.app import main; main()", "evaluate", "--quiet", "--suite", suite]
    subprocess.run([*command, *named, "--workspace", str(shop.workspace)], check=True, stdout=subprocess.DEVNULL)


def measured(what: str, foretold: Callable[[], Any], done: Callable[[], object]) -> None:
    """Print a line of what was said and what it took."""
    watch = Timer()
    bill = foretold().bill
    asking = watch.took
    took = timed(done)
    print(
        f"| {what} | {bill.seconds:.1f} | {bill.processor:.1f} | {took.seconds:.1f} | {took.processor:.1f} |"
        f" {bill.seconds / took.seconds:.2f}, {bill.processor / took.processor:.2f} | {asking.seconds:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
