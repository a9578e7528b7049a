"""How often new items are seen as they sell, and what trying them costs.

In the made-up shop some items that sell well are left 0, 1, 3, 10 or 30 of their sales, drawn at random, so that
nothing but the number of sales tells them apart. With --workspace a generation that is live is asked instead, where
items of few sales are other ones than those of many.

    python bench/cold_start_items.py [--preset fast] [--places 1]
    python bench/cold_start_items.py --workspace path/to/.molar
"""

import argparse
import json
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

import molar
from molar_indexes.recommender import Recommender
from molar_retrieval import rng
from molar_retrieval.ranking.query import Query

SALES = (0, 1, 3, 10, 30)
EACH = 12  # items that are left so many sales
_FEWEST = 35  # that they had before
_DAYS = 3
_BOUNDS = (0, 1, 2, 4, 11, 31, 10**9)
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


def thinned(catalogue: Path) -> None:
    """Leave some items of a made-up shop few of their sales."""
    path = catalogue / "interactions.parquet"
    log = pq.read_table(path)
    items = np.array(log["item_id"].to_pylist())
    names, counts = np.unique(items, return_counts=True)
    random = rng.generator(0, "thinned")
    chosen = random.permutation(names[counts >= _FEWEST])[: EACH * len(SALES)]
    keep = np.ones(len(items), bool)
    for number, name in enumerate(chosen.tolist()):
        sold = np.flatnonzero(items == name)
        keep[random.permutation(sold)[SALES[number % len(SALES)] :]] = False
    pq.write_table(log.filter(pa.array(keep)), path)
    (catalogue.parent / "thinned.json").write_text(json.dumps(chosen.tolist()), "utf-8")


def shares(recommender: Recommender, explore: bool) -> Shares:
    """In which share of everybody's lists of ten each item is, over three days."""
    users = recommender.generation.users
    people = [user for user in users.between(0, len(users)) if len(user.history)]
    seen, lists = np.zeros(len(recommender.generation.table.items), np.int64), 0
    for day in range(_DAYS if explore else 1):
        recommender.now = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(days=day)
        for one in recommender.rank_many(people, Query(explore=explore)):
            seen[[placed.row for placed in one.places]] += 1
            lists += 1
    return seen / lists


def sales(recommender: Recommender) -> Counts:
    """How often each item is in a history."""
    users, sold = recommender.generation.users, np.zeros(len(recommender.generation.table.items), np.int64)
    for user in users.between(0, len(users)):
        np.add.at(sold, np.asarray(user.history, np.int64), 1)
    return sold


def told(recommender: Recommender, groups: dict[str, npt.NDArray[np.bool_]]) -> None:
    """Print how often the items of each group are seen, and what the places cost."""
    without, tried = (shares(recommender, explore) for explore in (False, True))
    print(f"{'sales':>8} {'items':>6}  seen in so many of 100 lists: without, with draws; items seen: without, with")
    for name, group in groups.items():
        one, other = without[group], tried[group]
        figures = f"{100 * one.mean():8.2f} {100 * other.mean():8.2f}"
        print(f"{name:>8} {group.sum():6}  {figures} {np.count_nonzero(one):8} {np.count_nonzero(other):8}")
    print(json.dumps(recommender.generation.manifest.facts["exploration"]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Exposure of new items.")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--places", type=int)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--users", type=int, default=2000)
    arguments = parser.parse_args()
    if arguments.workspace is not None:
        with Recommender.open(arguments.workspace, follow=False) as recommender:
            sold = sales(recommender)
            spans = {
                f"{low}-{high - 1}" if high < _BOUNDS[-1] else f"{low}+": (low, high) for low, high in pairwise(_BOUNDS)
            }
            told(recommender, {name: (sold >= low) & (sold < high) for name, (low, high) in spans.items()})
        return
    with tempfile.TemporaryDirectory() as folder:
        made = molar.demo(folder, items=arguments.items, users=arguments.users)
        thinned(made.facts.folder)
        chosen = json.loads((Path(folder) / "thinned.json").read_text("utf-8"))
        settings = Path(folder) / "molar.toml"
        settings.write_text("" if arguments.places is None else f"[exploration]\nslots = {arguments.places}\n", "utf-8")
        shop = molar.Shop(made.facts.folder, made.shop.workspace, settings)
        shop.embed()
        shop.align(preset=arguments.preset)
        with Recommender.open(made.shop.workspace, follow=False) as recommender:
            rows = recommender.generation.index.rows(chosen)
            groups = {}
            for number, count in enumerate(SALES):
                groups[str(count)] = np.zeros(len(recommender.generation.table.items), bool)
                groups[str(count)][rows[number :: len(SALES)]] = True
            told(recommender, groups)


if __name__ == "__main__":
    main()
