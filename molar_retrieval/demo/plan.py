"""Plans the demo shop from a seed: what it sells, what people like, and what they bought one after the other."""

import calendar
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng as seeds
from molar_retrieval.demo.truth import DemoShop, Purchase, ShopItem, Shopper
from molar_retrieval.demo.vocabulary import COLOURS, KIND_BY_NAME, KINDS, PATTERNS, STORIES, WORDS, Pattern, Story
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

OPENING = calendar.timegm((2023, 1, 2, 9, 0, 0))
_DAY = 86_400

# Shares of users: both tastes, the pattern only, the story only, neither.
_TASTES = ((0.5, True, True), (0.15, True, False), (0.15, False, True), (0.2, False, False))
NEWCOMERS = 0.02
SINGLES = 0.03

# Weights in the logarithm of an item's chance.
_PATTERN, _STORY, _KIND, _COLOUR, _ROOM = 2.8, 2.8, 0.8, 0.5, 0.7
_FOLLOW = 0.45  # how often the next thing of a session is a companion of the last one
_STAY = 0.65  # how often a session goes on
_REPEAT = 0.015
_MEAN_LENGTH = 14.0
_LONGEST = 60

T = TypeVar("T")
Scores = npt.NDArray[np.float64]
Traits = dict[str, npt.NDArray[Any]]


def plan_shop(seed: int = SEED, *, items: int = ITEMS, users: int = USERS) -> DemoShop:
    """Plan a shop; the same arguments give the same plan. Fewer than 40 items or 20 users are a SettingsError."""
    if items < FEWEST_ITEMS or users < FEWEST_USERS:
        hint = f"ask for at least {FEWEST_ITEMS} items and {FEWEST_USERS} users"
        raise SettingsError(f"a demo shop of {items} items and {users} users is too small", hint)
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


def shopping(items: tuple[ShopItem, ...], n: int, seed: int) -> tuple[Shopper, ...]:
    """``n`` users with their purchases; a few have bought once, a few never."""
    rng = seeds.generator(seed, "demo", "users")
    users = _users(n, rng)
    order = rng.permutation(n)
    newcomers = max(1, round(NEWCOMERS * n))
    never = set(order[:newcomers].tolist())
    once = set(order[newcomers : newcomers + max(1, round(SINGLES * n))].tolist())
    # Nobody buys more than a quarter of a small shop.
    longest = min(_LONGEST, len(items) // 4)
    traits = traits_of(items)
    shoppers = []
    for row, user in enumerate(users):
        own = seeds.generator(seed, "demo", "user", row)
        length = min(longest, 3 + int(own.gamma(1.4, (_MEAN_LENGTH - 3) / 1.4)))
        if row in never or row in once:
            length = int(row in once)
        shoppers.append(replace(user, purchases=_walk(items, traits, user, length, own)))
    return tuple(shoppers)


def with_visitors(shop: DemoShop, n: int) -> DemoShop:
    """The shop with ``n`` more people of the same mix of tastes: anonymous, and without purchases."""
    strangers = _users(n, seeds.generator(shop.seed, "demo", "visitors"))
    more = (replace(one, user_id=f"v{row:05d}", anonymous=True) for row, one in enumerate(strangers, 1))
    return replace(shop, users=(*shop.users, *more))


def dealt(values: Sequence[T], n: int, rng: np.random.Generator) -> list[T]:
    """``n`` values in random order, each as often as the others."""
    return [values[int(i) % len(values)] for i in rng.permutation(n)]


def _users(n: int, rng: np.random.Generator) -> list[Shopper]:
    shares = np.cumsum([share for share, _, _ in _TASTES])
    styles = np.searchsorted(shares, (np.arange(n) + 0.5) / n)[rng.permutation(n)]
    looks: list[tuple[Pattern, Story]] = dealt([(p, s) for p in PATTERNS for s in STORIES], n, rng)
    users = []
    for row, (pattern, story) in enumerate(looks):
        _, sees, reads = _TASTES[int(styles[row])]
        users.append(
            Shopper(
                user_id=f"u{row + 1:04d}",
                pattern=pattern if sees else None,
                story=story if reads else None,
                colour=list(COLOURS)[int(rng.integers(len(COLOURS)))],
                kinds=tuple(KINDS[int(i)].name for i in rng.permutation(len(KINDS))[:4]),
            )
        )
    return users


def traits_of(items: tuple[ShopItem, ...], *, cold: bool = False) -> Traits:
    """The items' features as arrays, for scoring all items at once; nobody wants the cold ones unless they are in."""
    names = ("pattern", "story", "colour", "kind", "department")
    traits = {name: np.array([getattr(item, name) for item in items]) for name in names}
    with np.errstate(divide="ignore"):
        popularity = np.log(np.array([0 if item.cold and not cold else item.popularity for item in items]))
    return traits | {"popularity": popularity}


def liking(traits: Traits, user: Shopper) -> Scores:
    """The logarithm of each item's chance with a user, up to a constant, shape (n_items,)."""
    scores: Scores = (
        traits["popularity"]
        + _PATTERN * (traits["pattern"] == (user.pattern or ""))
        + _STORY * (traits["story"] == (user.story or ""))
        + _KIND * np.isin(traits["kind"], user.kinds)
        + _COLOUR * (traits["colour"] == user.colour)
    )
    return scores


def _walk(
    items: tuple[ShopItem, ...], traits: Traits, user: Shopper, length: int, rng: np.random.Generator
) -> tuple[Purchase, ...]:
    """A user's purchases: sessions weeks apart, in each of them one thing leading to the next."""
    likes = liking(traits, user)
    clock = OPENING + int(rng.uniform(0, 330 * _DAY))
    room = ""
    bought: list[Purchase] = []
    for _ in range(length):
        last = bought[-1].item if bought else None
        if last is None or rng.random() > _STAY:
            clock += int(rng.exponential(20 * _DAY)) + _DAY // 4
            room = KIND_BY_NAME[user.kinds[int(rng.integers(len(user.kinds)))]].department
            last = None
        else:
            clock += int(rng.integers(40, 1500))
        scores = likes + _ROOM * (traits["department"] == room)
        companions = () if last is None else items[last].companions
        bought.append(Purchase(_next(scores, companions, [purchase.item for purchase in bought], rng), clock))
    return tuple(bought)


def _next(scores: Scores, companions: Sequence[int], bought: list[int], rng: np.random.Generator) -> int:
    if bought and rng.random() < _REPEAT:
        return bought[int(rng.integers(len(bought)))]
    fresh = scores.copy()
    fresh[bought] = -np.inf
    noise = rng.gumbel(size=len(fresh))  # the largest score plus Gumbel noise is a draw from the softmax
    if companions and rng.random() < _FOLLOW:
        best = companions[int(np.argmax(fresh[list(companions)] + noise[list(companions)]))]
        if np.isfinite(fresh[best]):
            return best
    return int(np.argmax(fresh + noise))
