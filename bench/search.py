"""Does a search find the item that it describes? On a workspace with a live generation.

Each of some items is asked for by its title and product type, by its description, and by its own photo cropped by a
tenth on every side, mirrored, or darkened; everything in the catalogue may come. Items with the very same text count
as hits. And does it say when there is nothing? Asked are things that shops for clothes and the home do not have, for a
note; and titles, types and other words for what is there, for none.

    python bench/search.py path/to/workspace --type product_type --other-words knitwear,handbag
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance, ImageOps

from molar_indexes.recommender import Recommender
from molar_retrieval import rng
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.workspace.artefacts import Workspace

Item = dict[str, Any]


# Other things than those that calibrate, in molar_indexes/unrelated.toml.
ABSENT = (
    *(
        "lawn sprinkler",
        "electric guitar strings",
        "kitchen sink",
        "stapler",
        "motor oil",
        "chainsaw",
        "smoke detector",
    ),
    *("fishing net", "protein powder", "drum kit", "telescope", "hamster cage", "roof tiles", "screwdriver", "toaster"),
    *("vacuum cleaner", "paint roller", "USB cable", "cordless drill", "board game", "golf clubs", "trumpet", "router"),
    *("fever thermometer", "tractor", "cement", "Russian novel", "potting soil", "air conditioner", "bird feeder"),
    *("snow shovel", "crutches", "fire extinguisher", "blender", "memory card", "ironing board", "garden hose"),
    *("contact lenses", "train ticket", "tomato seeds"),
)


def cropped(photo: Image.Image) -> Image.Image:
    """Without a tenth of every side."""
    wide, high = photo.size
    return photo.crop((wide // 10, high // 10, wide - wide // 10, high - high // 10))


def darkened(photo: Image.Image) -> Image.Image:
    """At six tenths of the brightness."""
    return ImageEnhance.Brightness(photo).enhance(0.6)


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "cropped": cropped,
    "mirrored": ImageOps.mirror,
    "darkened": darkened,
}


def found(
    ask: Callable[[Item], Sequence[str]], items: Sequence[Item], every: Sequence[Item], alike: Callable[[Item], Any]
) -> dict[str, float]:
    """Share of the items that are first, and among the first ten, of what is answered."""
    kin: dict[Any, set[str]] = {}
    for item in every:
        kin.setdefault(alike(item), set()).add(item[ITEM_ID])
    first = ten = 0
    for item in items:
        answer = ask(item)
        first += answer[0] in kin[alike(item)]
        ten += bool(kin[alike(item)] & set(answer))
    return {"items": len(items), "R@1": first / len(items), "R@10": ten / len(items)}


def noted(recommender: Recommender, texts: Sequence[str]) -> dict[str, float]:
    """Share of some texts whose answer says that nothing here is like them."""
    nothing = [bool(recommender.search(text).notes) for text in texts]
    return {"texts": len(texts), "nothing like it": sum(nothing) / len(texts)}


def main(workspace: Path, kind: str, texts: int, photos: int, others: Sequence[str]) -> dict[str, Any]:
    """All searches."""
    catalogue = Catalogue.open(Workspace.open(workspace)["catalogue"].require()[0])
    batches = catalogue.batches([ITEM_ID, TITLE, DESCRIPTION, IMAGE, kind], 4096)
    every: list[Item] = [item for batch in batches for item in batch.to_pylist()]
    random = rng.generator(0, "search")
    chosen = [every[n] for n in random.permutation(len(every))]
    titled = [item for item in chosen if item[TITLE]][:texts]
    described = [item for item in chosen if item[DESCRIPTION]][:texts]
    pictured = [item for item in chosen if item[IMAGE]][:photos]
    results: dict[str, Any] = {}
    with Recommender.open(workspace) as recommender:

        def ids(**asked: Any) -> list[str]:
            return [item.item_id for item in recommender.search(**asked).items]

        def named(item: Item) -> Any:
            return item[TITLE], item[kind]

        results["title and type"] = found(lambda i: ids(text=f"{i[TITLE]} {i[kind]}"), titled, every, named)
        results["description"] = found(lambda i: ids(text=i[DESCRIPTION]), described, every, lambda i: i[DESCRIPTION])
        results["absent things"] = noted(recommender, ABSENT)
        results["titles"] = noted(recommender, [item[TITLE] for item in titled])
        results["types"] = noted(recommender, sorted({item[kind] for item in every if item[kind]}))
        results["other words"] = noted(recommender, others)
        for name, alter in ALTERED.items() if pictured else ():

            def ask(item: Item, alter: Callable[[Image.Image], Image.Image] = alter) -> list[str]:
                with Image.open(catalogue.folder / item[IMAGE]) as photo:
                    return ids(image=alter(photo.convert("RGB")))

            results[f"photo, {name}"] = found(ask, pictured, every, lambda i: i[ITEM_ID])
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--type", default="product_type", help="the column that says what an item is")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--photos", type=int, default=300)
    words = "knitwear,handbag,footwear,trainers,jumper,gown,shawl,headgear,clothes for summer,something for cold days"
    parser.add_argument("--other-words", default=words, help="words for what is there that its texts need not have")
    given = parser.parse_args()
    print(
        json.dumps(main(given.workspace, given.type, given.texts, given.photos, given.other_words.split(",")), indent=2)
    )
