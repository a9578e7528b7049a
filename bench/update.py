"""What `molar update` takes for each kind of change, and by how much lists move: copies of a shop that is aligned.

    python bench/update.py CATALOGUE WORKSPACE [--align PRESET]

The catalogue's tables must be Parquet files. Seconds are those of the clock and, as other programs may be at work, of
the processor; changes of a kind that was there before are foretold (`--dry-run`), by both. Lists are the first ten of
500 people, without draws, seen items hidden; a place has changed where another item stands in it. With ``--align`` the
last change is trained anew as well, for comparison.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import molar
from molar.bill import Bill
from molar.progress import display
from molar_retrieval.ids import IdMap

LIMITS = {"nothing": 1, "prices of 12 items": 5, "100 new items": 15, "a day of interactions": 20}
PEOPLE, DAY = 500, 86_400
Lists = dict[str, list[str]]


class Copy:
    """A copy of a shop, whose tables change."""

    def __init__(self, catalogue: Path, workspace: Path, folder: Path) -> None:
        self.folder, self.stamp = folder / "catalogue", time.time() + DAY
        shutil.copytree(catalogue, self.folder)
        shutil.copytree(workspace, folder / ".molar", symlinks=True)
        self.shop = molar.Shop(catalogue, folder / ".molar", display=display).move(catalogue=self.folder)
        self.random = np.random.default_rng(0)

    def table(self, name: str) -> pd.DataFrame:
        """A table of the catalogue."""
        return pd.read_parquet(self.folder / f"{name}.parquet")

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Write it anew."""
        table.to_parquet(self.folder / f"{name}.parquet", index=False)

    def prices(self) -> None:
        """Other numbers for twelve items."""
        items = self.table("items")
        number = next(name for name in items.columns if pd.api.types.is_numeric_dtype(items[name]))
        items.loc[items.index[:12], number] += 1
        self.write("items", items)

    def new_items(self) -> None:
        """A hundred new items: words and photos of old ones under other ids and titles."""
        items = self.table("items")
        new = items.sample(100, random_state=len(items))
        ids = [f"new-{len(items) + n}" for n in range(100)]
        new = new.assign(item_id=ids, title="Another " + new["title"].astype(str))
        self.write("items", pd.concat([items, new], ignore_index=True))

    def interactions(self, count: int) -> Callable[[], None]:
        """So many interactions of random people with random items, after all others."""

        def appended() -> None:
            log = self.table("interactions")
            rows = log.sample(count, random_state=count)
            items = log["item_id"].sample(count, random_state=count + 1).to_numpy()
            step = pd.Timedelta(seconds=1) if log["timestamp"].dtype.kind == "M" else 1
            times = [log["timestamp"].max() + n * step for n in range(1, count + 1)]
            self.write("interactions", pd.concat([log, rows.assign(item_id=items, timestamp=times)], ignore_index=True))

        return appended

    def lists(self, people: Sequence[str]) -> Lists:
        """The first ten of each."""
        with self.shop.recommender() as recommender:
            return {user: [i.item_id for i in recommender.query(user, k=10, explore=False).items] for user in people}


def moved(before: Lists, after: Lists) -> float:
    """Places of ten that another item stands in, on average."""
    return float(np.mean([sum(a != b for a, b in zip(before[u], after[u], strict=False)) for u in before]))


def measured(what: str, do: Callable[[], object], foretold: Bill | None = None) -> None:
    """Do it, and say what it took, and what was foretold by what was taken."""
    clock, processor = time.perf_counter(), time.process_time()
    report = do()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    limit = f"{LIMITS[what]} s" if what in LIMITS else "–"
    told = "–" if foretold is None else f"{foretold.seconds / clock:.2f}, {foretold.processor / processor:.2f}"
    print(f"| {what} | {limit} | {clock:.1f} s | {processor:.1f} s | {told} |", flush=True)
    for step in getattr(report, "steps", ()):
        print(f"<!-- {step.name}: {step.outcome or 'nothing'}, {step.seconds} s -->", flush=True)


def main() -> None:
    """Measure each kind of change, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--align", metavar="PRESET")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(said.catalogue, said.workspace, Path(folder))
        shop = copy.shop
        shop.update()  # whatever the copy lacks
        people = IdMap(copy.table("interactions")["user_id"].astype(str).drop_duplicates()).array.to_pylist()[:PEOPLE]
        before = copy.lists(people)
        print("| what has changed | limit | clock | processor | forecast by taken |\n|---|---:|---:|---:|---:|")
        measured("nothing", shop.update)
        print(f"\nnothing: {moved(before, copy.lists(people)):.3f} places of ten changed\n")
        again = {
            "prices of 12 items": copy.prices,
            "100 new items": copy.new_items,
            "a day of interactions": copy.interactions(1001),
        }
        copy.interactions(10)()
        measured("ten interactions", shop.update)
        print(f"\nten interactions: {moved(before, copy.lists(people)):.3f} places of ten changed\n")
        copy.prices()
        measured("prices of 12 items", shop.update)
        copy.new_items()
        measured("100 new items", shop.update)
        copy.interactions(1000)()
        measured("a day of interactions", shop.update)
        for what, change in again.items():
            change()
            measured(what, shop.update, shop.update(dry_run=True).expected)
        if said.align:
            last = copy.lists(people)
            measured(f"molar align --preset {said.align}", lambda: shop.align(preset=said.align))
            print(f"\ntrained anew: {moved(last, copy.lists(people)):.3f} places of ten changed\n")


if __name__ == "__main__":
    main()
