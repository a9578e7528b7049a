"""What the demo shop sells: its kinds of thing, colours, patterns, stories and brands. All of it is made up."""

from dataclasses import dataclass
from typing import Literal, get_args

Pattern = Literal["plain", "stripes", "dots", "checks"]
Story = Literal["fair_trade", "recycled", "lavender", "astronomy", "repair"]

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
"""How a thing is printed or woven: visible in the photo and said nowhere."""

STORIES: tuple[Story, ...] = get_args(Story)
"""What is special about a thing: told in its description and visible nowhere."""


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Attributes:
        name: Of the silhouette that draws it.
        category: As the catalogue calls it.
        department: Clothing, Accessories or Home. What is sold for the home names no colour in its text.
        nouns: Words for it in a title.
        materials: What it can be made of; the drawing does not show it.
        price: A usual price.
        goes_with: Kinds that are bought after it.
    """

    name: str
    category: str
    department: str
    nouns: tuple[str, ...]
    materials: tuple[str, ...]
    price: float
    goes_with: tuple[str, ...]


_CLOTH = ("organic cotton", "linen", "hemp", "bamboo viscose")
_WOOL = ("merino wool", "lambswool", "alpaca", "cotton")
_FELT = ("wool felt", "cotton twill", "waxed canvas", "linen")

KINDS: tuple[Kind, ...] = (
    Kind("tshirt", "T-shirts", "Clothing", ("T-shirt", "tee", "crew-neck tee"), _CLOTH, 29, ("cap", "shoe", "bag")),
    Kind("jumper", "Jumpers", "Clothing", ("jumper", "sweater", "pullover"), _WOOL, 69, ("scarf", "shoe", "cap")),
    Kind("dress", "Dresses", "Clothing", ("dress", "summer dress", "day dress"), _CLOTH, 79, ("bag", "shoe", "scarf")),
    Kind("cap", "Caps", "Accessories", ("cap", "peaked cap", "baseball cap"), _FELT, 25, ("tshirt", "shoe")),
    Kind("scarf", "Scarves", "Accessories", ("scarf", "wrap", "neck scarf"), _WOOL, 35, ("jumper", "umbrella")),
    Kind("bag", "Bags", "Accessories", ("tote", "shopper", "carry bag"), _FELT, 45, ("dress", "scarf", "umbrella")),
    Kind("shoe", "Shoes", "Accessories", ("sneaker", "canvas shoe", "low-top"), _FELT, 89, ("tshirt", "dress")),
    Kind(
        "umbrella", "Umbrellas", "Accessories", ("umbrella", "stick umbrella"), ("pongee", "nylon"), 39,
        ("bag", "cap"),
    ),
    Kind("mug", "Mugs", "Home", ("mug", "coffee mug", "cup"), ("stoneware", "porcelain"), 15, ("vase", "lamp")),
    Kind(
        "lamp", "Lamps", "Home", ("table lamp", "bedside lamp", "lamp"), ("ash and cotton", "steel and linen"), 99,
        ("cushion", "vase", "mug"),
    ),
    Kind("cushion", "Cushions", "Home", ("cushion", "throw pillow", "sofa cushion"), _CLOTH, 32, ("rug", "lamp")),
    Kind(
        "chair", "Chairs", "Home", ("armchair", "reading chair", "lounge chair"), ("oak and wool", "beech and linen"),
        349, ("cushion", "lamp", "rug"),
    ),
    Kind("vase", "Vases", "Home", ("vase", "flower vase"), ("earthenware", "stoneware", "glass"), 42, ("mug", "lamp")),
    Kind("rug", "Rugs", "Home", ("rug", "floor rug", "hall rug"), ("jute", "wool"), 129, ("chair", "cushion")),
)  # fmt: skip

KIND_BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (200, 44, 48),
    "orange": (232, 122, 40),
    "yellow": (240, 196, 56),
    "green": (52, 128, 82),
    "blue": (38, 92, 168),
    "purple": (122, 74, 152),
    "pink": (232, 128, 160),
    "grey": (84, 90, 100),
}
"""Main colours: stated in the colour column of clothes and accessories; of things for the home only the photo tells."""

BRANDS: tuple[str, ...] = (
    "Alderfinch", "Brindlewick", "Tamsin & Row", "Norrvik", "Pell House", "Quillon", "Maren Loft", "Tolvay",
)  # fmt: skip

NAMES: tuple[str, ...] = (
    "Adair", "Arden", "Avel", "Bexley", "Birgit", "Bram", "Calder", "Cassia", "Corin", "Dara", "Delft", "Elin",
    "Emrys", "Fara", "Fenn", "Flora", "Galen", "Greta", "Halden", "Hanno", "Ida", "Ilse", "Ines", "Ivo", "Jonna",
    "Jura", "Kaia", "Kelso", "Lasse", "Lena", "Linnet", "Lowen", "Mabel", "Malin", "Marlow", "Mira", "Nell", "Nils",
    "Oda", "Orla", "Oslo", "Otto", "Pella", "Perrin", "Petra", "Quinn", "Rafe", "Runa", "Saga", "Selma", "Sorrel",
    "Stina", "Tarn", "Thea", "Tove", "Ula", "Una", "Vale", "Vera", "Vigo", "Wells", "Wilma", "Wren", "Yara", "Ylva",
    "Zeno",
)  # fmt: skip
