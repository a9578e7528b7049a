"""Plans the demo shop from a seed: what it sells, and with :mod:`molar_retrieval.demo.shoppers` who buys there."""

from dataclasses import replace

import numpy as np

from molar_retrieval import rng as seeds
from molar_retrieval.demo.shoppers import dealt, shopping
from molar_retrieval.demo.truth import DemoShop, ShopItem
from molar_retrieval.demo.vocabulary import COLOURS, KIND_BY_NAME, KINDS, PATTERNS, STORIES, WORDS
from molar_retrieval.errors import SettingsError

SEED = 7
ITEMS = 400
USERS = 800
FEWEST_ITEMS = 40
FEWEST_USERS = 20

NO_PHOTO = 0.05
NO_DESCRIPTION = 0.05
COLD = 0.08
_COMPANIONS = 4
_ZIPF = 0.6


def plan_shop(seed: int = SEED, *, items: int = ITEMS, users: int = USERS) -> DemoShop:
    """Plan a shop; the same arguments give the same plan.

    Args:
        seed: Of everything random in it.
        items: How many items, at least 40.
        users: How many users, at least 20.

    Raises:
        SettingsError: If there are too few items or users.
    """
    if items < FEWEST_ITEMS or users < FEWEST_USERS:
        raise SettingsError(
            f"a demo shop of {items} items and {users} users is too small",
            f"ask for at least {FEWEST_ITEMS} items and {FEWEST_USERS} users",
        )
    stock = _with_companions(_items(items, seeds.generator(seed, "demo", "items")), seed)
    return DemoShop(seed, stock, shopping(stock, users, seed))


def _items(n: int, rng: np.random.Generator) -> tuple[ShopItem, ...]:
    kinds = dealt(KINDS, n, rng)
    looks = dealt([(pattern, story) for pattern in PATTERNS for story in STORIES], n, rng)
    colours = dealt(list(COLOURS), n, rng)
    brands = dealt(WORDS["brands"], n, rng)
    names = dealt(WORDS["names"], n, rng)
    ranks = rng.permutation(n) + 1
    bare = rng.permutation(n)
    photos, texts = round(NO_PHOTO * n), round(NO_DESCRIPTION * n)
    no_photo, no_text = set(bare[:photos].tolist()), set(bare[photos : photos + texts].tolist())
    cold = set(rng.permutation(n)[: round(COLD * n)].tolist())
    return tuple(
        ShopItem(
            item_id=f"SKU-{row + 1:04d}",
            kind=kind.name,
            pattern=looks[row][0],
            colour=colours[row],
            story=looks[row][1],
            material=kind.materials[int(rng.integers(len(kind.materials)))],
            brand=brands[row],
            name=names[row],
            price=round(kind.price * float(rng.lognormal(0, 0.25))) + 0.9,
            popularity=float(ranks[row]) ** -_ZIPF,
            has_photo=row not in no_photo,
            has_description=row not in no_text,
            cold=row in cold,
        )
        for row, kind in enumerate(kinds)
    )


def _with_companions(items: tuple[ShopItem, ...], seed: int) -> tuple[ShopItem, ...]:
    """Give each item its companions: of kinds that go with it, rather of its brand and with its pattern."""
    rng = seeds.generator(seed, "demo", "companions")
    planned = []
    for item in items:
        wanted = KIND_BY_NAME[item.kind].goes_with
        rows = [row for row, other in enumerate(items) if other.kind in wanted and not other.cold]
        affinity = [1.5 * (items[row].brand == item.brand) + 1.5 * (items[row].pattern == item.pattern) for row in rows]
        order = np.argsort(-(np.array(affinity) + rng.gumbel(size=len(rows))))
        planned.append(replace(item, companions=tuple(rows[i] for i in order[:_COMPANIONS])))
    return tuple(planned)
