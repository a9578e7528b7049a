"""Faults of attributes and ids: slips, fillers, outliers, wrong types, the same id twice."""

import pyarrow as pa
from planting import Shop, ids, planter


def _keyword(shop: Shop) -> str:
    """A column of words with few values, each of them frequent."""
    names = [name for name in ("category", "product_type", "garment_group", "department") if name in shop.schema]
    return names[0]


@planter("attribute.spelling")
def spelling(shop: Shop) -> list[str]:
    name = _keyword(shop)
    values = [item.get(name) for item in shop.items]
    frequent = {value for value in values if value and values.count(value) >= 21 and len(value) > 5 and value.isalpha()}
    chosen = []
    for item in shop.take(name, 4 * shop.each):
        if item[name] in frequent and len(chosen) < shop.each:
            frequent.discard(item[name])  # one slip for each value
            word = item[name]
            item[name] = (word.upper(), f" {word}", word[:3] + word[4:], word[:2] + word[3] + word[2] + word[4:])[
                len(chosen) % 4
            ]
            chosen.append(item)
    return ids(chosen)


@planter("attribute.filler")
def attribute_filler(shop: Shop) -> list[str]:
    name = next(name for name in ("material", "graphical_appearance", "section") if name in shop.schema)
    chosen = shop.take(name)
    for place, item in enumerate(chosen):
        item[name] = ("null", "N/A", "unknown", "-")[place % 4]
    return ids(chosen)


@planter("attribute.outlier")
def outlier(shop: Shop) -> list[str]:
    for item in shop.items:
        item["planted_price"] = round(float(shop.random.lognormal(3.5, 0.4)), 2)
    shop.schema["planted_price"] = pa.float64()
    chosen = shop.take("planted_price")
    for place, item in enumerate(chosen):
        item["planted_price"] = (0.0, -1.0, item["planted_price"] * 1000, item["planted_price"] / 1000)[place % 4]
    return ids(chosen)


@planter("attribute.wrong_type")
def wrong_type(shop: Shop) -> list[str]:
    for item in shop.items:
        item["planted_weight"] = str(int(shop.random.integers(100, 900)))
    chosen = shop.take("planted_weight")
    for place, item in enumerate(chosen):
        item["planted_weight"] = ("heavy", "about 300", "300 g", "see label")[place % 4]
    return ids(chosen)


@planter("attribute.not_finite")
def not_finite(shop: Shop) -> list[str]:
    for item in shop.items:
        item["planted_score"] = float(shop.random.normal())
    chosen = shop.take("planted_score")
    for place, item in enumerate(chosen):
        item["planted_score"] = (float("inf"), float("-inf"))[place % 2]
    return ids(chosen)


@planter("attribute.constant")
def constant(shop: Shop) -> list[str]:
    for item in shop.items:
        item["planted_country"] = "Sweden"
    return ["planted_country"]


@planter("attribute.empty")
def empty(shop: Shop) -> list[str]:
    for place, item in enumerate(shop.items):
        item["planted_note"] = "a note" if place % 50 == 0 else None
    return ["planted_note"]


@planter("attribute.unique")
def unique(shop: Shop) -> list[str]:
    for place, item in enumerate(shop.items):
        item["planted_label"] = f"label {place} of the shop"
    return ["planted_label"]


@planter("item.same_id")
def same_id(shop: Shop) -> list[str]:
    chosen = shop.take("id")
    shop.items += [dict(item) for item in chosen]
    return ids(chosen)
