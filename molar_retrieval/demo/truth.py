"""The truth behind the demo shop: every item's hidden features, every user's tastes and what they bought.

Tests compare with it. It is never written to the catalogue's folder: a photo shows the pattern, a description
tells the story, and the log shows what people chose.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molar_retrieval.demo.vocabulary import KIND_BY_NAME, Pattern, Story


@dataclass(frozen=True)
class ShopItem:
    """An item with its hidden features.

    Attributes:
        item_id: As the shop writes it, such as ``SKU-0042``.
        kind: Name of its kind.
        pattern: Shown in the photo only.
        colour: Shown in the photo; stated as an attribute too unless the item is for the home.
        story: Told in the description only.
        popularity: How often it is chosen, all else being equal (the most popular item has 1).
        has_photo: Whether the catalogue has a photo of it.
        has_description: Whether the catalogue has a description of it.
        cold: Whether nobody has bought it yet.
        companions: Rows of the items that people like to buy after it.
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
    """A user with tastes.

    Attributes:
        user_id: As the shop writes it, such as ``u0007``.
        pattern: The pattern that the user falls for, or None.
        story: The story that the user falls for, or None.
        colour: A colour that the user likes a little more than others.
        kinds: Kinds that the user likes to buy.
        purchases: In their order; empty for somebody who has only registered.
    """

    user_id: str
    pattern: Pattern | None
    story: Story | None
    colour: str
    kinds: tuple[str, ...]
    purchases: tuple[Purchase, ...] = ()


@dataclass(frozen=True)
class DemoShop:
    """The whole plan; rows of items and users are positions in these tuples."""

    seed: int
    items: tuple[ShopItem, ...]
    users: tuple[Shopper, ...]

    def matches(self, user: Shopper) -> npt.NDArray[np.bool_]:
        """Which items have all that the user falls for, shape (n_items,), bool."""
        return np.array(
            [user.pattern in (None, item.pattern) and user.story in (None, item.story) for item in self.items]
        )
