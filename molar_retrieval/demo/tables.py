"""The demo shop as three tables, with the columns that a shop would have; titles and descriptions from templates.

A description tells an item's story and material; neither it nor a title says a word about pattern or colour.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from molar_retrieval import rng as seeds
from molar_retrieval.demo.truth import DemoShop, ShopItem
from molar_retrieval.demo.vocabulary import KIND_BY_NAME, WORDS

_SIZES = ["XS", "S", "M", "L", "XL", "XXL"]


def photo_path(item: ShopItem) -> str:
    """Where an item's photo is, relative to the catalogue."""
    return f"images/{item.item_id}.jpg"


def _row(item: ShopItem, seed: int) -> dict[str, Any]:
    rng = seeds.generator(seed, "demo", "text", item.item_id)
    kind = KIND_BY_NAME[item.kind]
    noun = _one(kind.nouns, rng)
    words = {"noun": noun, "Noun": noun[0].upper() + noun[1:]}
    words |= {"name": item.name, "brand": item.brand, "material": item.material}
    return {
        "item_id": item.item_id,
        "title": _filled(_one(WORDS["titles"], rng), words),
        "description": _description(item, words, rng) if item.has_description else None,
        "image": photo_path(item) if item.has_photo else None,
        "category": kind.category,
        "department": kind.department,
        "colour": None if kind.department == "Home" else item.colour,
        "material": item.material,
        "brand": item.brand,
        "price": item.price,
        "sizes": _SIZES if kind.department == "Clothing" else None,
        "in_stock": bool(rng.random() < 0.93),
        "released": 2025 if item.cold else int(rng.integers(2018, 2023)),
    }


def _description(item: ShopItem, words: dict[str, str], rng: np.random.Generator) -> str:
    """Some sentences; two of them tell the story."""
    opener = _filled(_one(WORDS["openers"][item.department], rng), words)
    told = WORDS["stories"][item.story]
    first, second = (told[i] for i in rng.permutation(len(told))[:2])
    material = "" if item.material in opener else f"Material: {item.material}."
    middle = [material, _one(WORDS["care"][item.department], rng)]
    rng.shuffle(middle)
    sentences = [opener, first, *middle, second, _one(WORDS["closers"], rng)]
    if rng.random() < 0.4:
        sentences = [first, opener, second, *middle]
    return " ".join(sentence for sentence in sentences if sentence)


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _filled(template: str, words: dict[str, str]) -> str:
    return template.format(**words).replace("A umbrella", "An umbrella").replace("A armchair", "An armchair")


def items_table(shop: DemoShop) -> pa.Table:
    """The catalogue: one row per item."""
    schema = pa.schema(
        [(name, pa.string()) for name in ("item_id", "title", "description", "image", "category", "department")]
        + [(name, pa.string()) for name in ("colour", "material", "brand")]
        + [("price", pa.float64()), ("sizes", pa.list_(pa.string()))]
        + [("in_stock", pa.bool_()), ("released", pa.int64())]
    )
    return pa.Table.from_pylist([_row(item, shop.seed) for item in shop.items], schema)


def interactions_table(shop: DemoShop) -> pa.Table:
    """All purchases as a till would log them: by time."""
    log = [(buy.timestamp, user.user_id, buy.item) for user in shop.users for buy in user.purchases]
    log.sort(key=lambda entry: entry[:2])
    return pa.table(
        {
            "user_id": pa.array([user for _, user, _ in log], pa.string()),
            "item_id": pa.array([shop.items[item].item_id for _, _, item in log], pa.string()),
            "timestamp": pa.array([when for when, _, _ in log], pa.timestamp("s", tz="UTC")),
            "event": pa.array(["purchase"] * len(log), pa.string()),
        }
    )


def users_table(shop: DemoShop) -> pa.Table:
    """Everybody who has registered."""
    rng = seeds.generator(shop.seed, "demo", "segments")
    segments = [("guest", "member", "member", "club")[int(i)] for i in rng.integers(4, size=len(shop.users))]
    return pa.table({"user_id": [user.user_id for user in shop.users], "segment": segments})
