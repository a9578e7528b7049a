"""What `molar align --dry-run` says beforehand, beside what `molar align` then takes, by preset or with privacy.

    python bench/forecast.py ml-1m/ WORKSPACE --presets instant,fast --privacy 4

The workspace needs content vectors (`molar embed ml-1m/ --workspace WORKSPACE`); it is copied, and stays as it is.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import molar
from molar_retrieval.workspace.resources import Timer, timed


def main() -> None:
    """Print a line for each preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--presets", default="", help="such as instant,fast")
    parser.add_argument("--privacy", type=float, help="a release at this epsilon, too")
    asked = parser.parse_args()
    runs: dict[str, dict[str, Any]] = {preset: {"preset": preset} for preset in asked.presets.split(",") if preset}
    if asked.privacy is not None:
        runs[f"ε = {asked.privacy:g}"] = {"privacy": asked.privacy}
    print("| align | forecast, s | processors, s | taken, s | processors, s | forecast by taken | to find out, s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, options) in enumerate(runs.items()):
            place = Path(folder) / str(number)
            for kind in ("catalogue", "content"):
                shutil.copytree(asked.workspace / kind, place / kind)
            shutil.copyfile(asked.workspace / "workspace.json", place / "workspace.json")
            shop = molar.Shop(asked.catalogue, place)
            shop.embed()  # up to date
            watch = Timer()
            bill = shop.align_forecast(**options).bill
            asking = watch.took
            took = timed(lambda shop=shop, options=options: shop.align(**options))
            print(
                f"| {name} | {bill.seconds:.1f} | {bill.processor:.1f} | {took.seconds:.1f} | {took.processor:.1f} |"
                f" {bill.seconds / took.seconds:.2f}, {bill.processor / took.processor:.2f} | {asking.seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
