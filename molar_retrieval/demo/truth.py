"""The truth behind the demo shop, for tests: it is never written to the catalogue's folder."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_retrieval.demo.vocabulary import KIND_BY_NAME, Pattern, Story


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

    Somebody anonymous is known to the shop by a session alone, whose id is in the place of a user's.
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
        """Who they are to the shop: the field of an event or of a question, and its value."""
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
