"""Photos exchanged and categories changed in the demo shop, and how many of them the map's lists name, and only them.

    python bench/item_map.py [--each 16] [--seeds 2] [--items 400] [--users 800]

Of each seed the faults are planted in the shop's files, items embedded and aligned anew and the map made, as `molar`
does it, so that wrong photos and categories have gone into all that the lists are made of. Times are CPU seconds of
making the map.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import faults
import numpy as np

import molar
from molar_indexes.item_map.store import item_map, make_item_map


def planted(shop: faults.Shop) -> dict[str, set[str]]:
    """Exchange photos in pairs, and give other items the category of another one; which items these are."""
    photos = shop.take("photo")
    for left, right in zip(photos[::2], photos[1::2], strict=True):
        left["image"], right["image"] = right["image"], left["image"]
    strays = [item for item in shop.take("category", 2 * shop.each) if item not in photos][: shop.each]
    names = sorted({item["category"] for item in shop.items})
    for item in strays:
        item["category"] = str(shop.random.choice([name for name in names if name != item["category"]]))
    return {"photo": set(faults.ids(photos)), "category": set(faults.ids(strays))}


def measured(catalogue: Path, folder: Path, seed: int, each: int) -> tuple[dict[str, np.ndarray], float]:
    """By kind: how many faults are planted, named, and named rightly; and the CPU seconds of the map."""
    copy = faults.Shop.copy(catalogue, folder, seed=seed, each=each)
    wrong = planted(copy)
    copy.write()
    shop = molar.Shop(folder, folder / ".molar")
    shop.embed()
    shop.align()
    workspace = shop.opened()
    name = workspace["generations"].require()[0].name
    began = time.process_time()
    make_item_map(workspace, name)
    seconds = time.process_time() - began
    found = item_map(workspace, name)
    assert found is not None
    with shop.recommender() as recommender:
        ids = recommender.generation.table.item_ids()
    counts = {}
    for kind, own in wrong.items():
        named = {ids[one.row] for one in found.found if one.kind == kind}
        counts[kind] = np.array([len(own), len(named), len(own & named)])
    return counts, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=16, help="items with a fault of each kind")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--users", type=int, default=800)
    given = parser.parse_args()
    counts = {kind: np.zeros(3, np.int64) for kind in ("photo", "category")}
    seconds = []
    with tempfile.TemporaryDirectory() as place:
        catalogue = molar.demo(Path(place) / "shop", items=given.items, users=given.users).facts.folder
        for seed in range(given.seeds):
            found, took = measured(catalogue, Path(place) / f"shop{seed}", seed, given.each)
            seconds.append(took)
            for kind, numbers in found.items():
                counts[kind] += numbers
    for kind, (own, named, right) in counts.items():
        precision, recall = right / max(named, 1), right / own
        told = {"planted": own, "named": named, "right": right}
        print(kind, json.dumps({name: int(value) for name, value in told.items()}), f"{precision:.2f} {recall:.2f}")
    print(f"CPU seconds of a map: {np.mean(seconds):.1f}")


if __name__ == "__main__":
    main()
