"""The demo data set: its truth, planned from a seed, and its tables, as a shop would export them.

What it sells, what people like, and what they bought one after the other is never written to the catalogue's folder. A
description tells an item's story and material; neither it nor a title says a word about pattern or colour.
"""

import calendar
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval import rng as seeds
from molar_retrieval.data.demo.photos import draw
from molar_retrieval.data.demo.vocabulary import (
    COLOURS,
    KIND_BY_NAME,
    KINDS,
    PATTERNS,
    STORIES,
    WORDS,
    Pattern,
    Story,
    packaged,
)
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.progress import SILENT, Progress


@dataclass(frozen=True)
class ShopItem:
    """An item with its hidden features.

    The photo alone shows its pattern, the description alone its story; the colour is an attribute too unless it is for
    the home. The most popular item has 1; a cold one nobody has bought yet. Companions are the rows of the items that
    people like to buy after it.
    """

    item_id: str
    kind: str
    pattern: Pattern
    colour: str
    story: Story
    material: str
    brand: str
    name: str
    price: float
    popularity: float
    has_photo: bool
    has_description: bool
    cold: bool
    companions: tuple[int, ...] = ()

    @property
    def department(self) -> str:
        """Clothing, Accessories or Home."""
        return KIND_BY_NAME[self.kind].department


@dataclass(frozen=True)
class Purchase:
    """One purchase: the item's row in the plan and when (seconds UTC)."""

    item: int
    timestamp: int


@dataclass(frozen=True)
class Shopper:
    """A user with the pattern and story that they fall for, or None, liked colour and kinds, and ordered purchases.

    An anonymous user has a session id in place of a user id.
    """

    user_id: str
    pattern: Pattern | None
    story: Story | None
    colour: str
    kinds: tuple[str, ...]
    purchases: tuple[Purchase, ...] = ()
    anonymous: bool = False

    @property
    def sent(self) -> dict[str, str]:
        """The id field of events and requests, and its value."""
        return {"session_id" if self.anonymous else "user_id": self.user_id}


@dataclass(frozen=True)
class DemoShop:
    """The whole plan; rows of items and users are positions in these tuples."""

    seed: int
    items: tuple[ShopItem, ...]
    users: tuple[Shopper, ...]

    def matches(self, user: Shopper) -> npt.NDArray[np.bool_]:
        """Which items have all that the user falls for, shape (n_items,), bool."""
        fits = [user.pattern in (None, item.pattern) and user.story in (None, item.story) for item in self.items]
        return np.array(fits)


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
    """The shop with ``n`` more users of the same mix of tastes: anonymous, without purchases."""
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
    """The items' features as arrays; items without purchases have no popularity unless ``cold``."""
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
    rows = [_row(item, shop.seed) for item in shop.items]
    others = {"price": pa.float64(), "sizes": pa.list_(pa.string()), "in_stock": pa.bool_(), "released": pa.int64()}
    return pa.Table.from_pylist(rows, pa.schema([(name, others.get(name, pa.string())) for name in rows[0]]))


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
    """The registered users and their segments."""
    rng = seeds.generator(shop.seed, "demo", "segments")
    segments = [("guest", "member", "member", "club")[int(i)] for i in rng.integers(4, size=len(shop.users))]
    return pa.table({"user_id": [user.user_id for user in shop.users], "segment": segments})


_README = packaged("README.template.txt")
NOTICE = _README.partition("\n")[0]  # the sentence by which a folder is known as a demo shop


@dataclass(frozen=True)
class DemoFacts:
    """What was written.

    Attributes:
        interactions: How many purchases there are.
        example_user: A user with a history and distinct tastes.
        new_user: A user without any history.
    """

    folder: Path
    seed: int
    items: int
    users: int
    interactions: int
    example_user: str
    new_user: str


def write_demo_shop(
    folder: Path,
    *,
    seed: int = SEED,
    items: int = ITEMS,
    users: int = USERS,
    arriving: bool = False,
    progress: Progress = SILENT,
) -> DemoFacts:
    """Write the made-up demo shop; the same arguments give the same bytes.

    Items that nobody has bought yet are not in the items file where they are ``arriving``: they come by events, see
    :mod:`molar_retrieval.data.demo.traffic`.

    The folder is new or empty, or has an earlier demo shop, which is replaced; all else in it is a DataError. Fewer
    than 40 items or 20 users are a SettingsError.
    """
    shop = plan_shop(seed, items=items, users=users)
    _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(_README.format(seed=seed), "utf-8", newline="\n")  # first: it marks it as ours
    (folder / "catalog.toml").write_text(packaged("catalog.template.toml"), "utf-8", newline="\n")
    _write_photos(shop, folder, progress)
    there = replace(shop, items=tuple(item for item in shop.items if not (arriving and item.cold)))
    pq.write_table(items_table(there), folder / "items.parquet")
    pq.write_table(interactions_table(shop), folder / "interactions.parquet")
    pq.write_table(users_table(shop), folder / "users.parquet")
    return DemoFacts(
        folder=folder,
        seed=seed,
        items=len(shop.items),
        users=len(shop.users),
        interactions=sum(len(user.purchases) for user in shop.users),
        example_user=_example(shop.users).user_id,
        new_user=next(user.user_id for user in shop.users if not user.purchases),
    )


def _clear(folder: Path) -> None:
    """Make way for a new shop, but never for anything that is not one of ours."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    readme = folder / "README.txt"
    if not (readme.is_file() and readme.read_text("utf-8", errors="replace").startswith(NOTICE)):
        raise DataError(f"{folder} holds something that is not the demo shop", "name a new or an empty folder")
    shutil.rmtree(folder / "images", ignore_errors=True)


def _write_photos(shop: DemoShop, folder: Path, progress: Progress) -> None:
    (folder / "images").mkdir()
    shown = [item for item in shop.items if item.has_photo]
    progress.start("drawing the demo shop", len(shown))
    for item in shown:
        photo = draw(item.kind, item.colour, item.pattern, seeds.generator(shop.seed, "demo", "photo", item.item_id))
        photo.save(folder / photo_path(item), quality=82)
        progress.advance()
    progress.finish()


def _example(users: Sequence[Shopper]) -> Shopper:
    """A user with both tastes and a history of middle length; else the one with most purchases."""
    fitting = (user for user in users if user.pattern and user.story and 8 <= len(user.purchases) <= 14)
    return next(fitting, max(users, key=lambda user: len(user.purchases)))
