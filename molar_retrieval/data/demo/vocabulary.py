"""What the demo shop sells: kinds of thing, colours, patterns, stories and brands, read from ``shop.toml``."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, get_args

Pattern = Literal["plain", "stripes", "dots", "checks"]
Story = Literal["fair_trade", "recycled", "lavender", "astronomy", "repair"]

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)  # seen in the photo, said nowhere
STORIES: tuple[Story, ...] = get_args(Story)  # told in the description, seen nowhere


@dataclass(frozen=True)
class ProductKind:
    """A kind of thing; the fields are explained in ``shop.toml``."""

    name: str
    category: str
    department: str
    nouns: Sequence[str]
    materials: Sequence[str]
    price: float
    goes_with: Sequence[str]


def packaged(name: str) -> str:
    """The text of a file beside this module."""
    return (resources.files(__package__) / name).read_text("utf-8")


WORDS: Mapping[str, Any] = tomllib.loads(packaged("shop.toml"))  # all of ``shop.toml``

KINDS: Sequence[ProductKind] = [ProductKind(**row) for row in WORDS["kinds"]]
KIND_BY_NAME: Mapping[str, ProductKind] = {kind.name: kind for kind in KINDS}
COLOURS: Mapping[str, Sequence[int]] = WORDS["colours"]  # main colours in red, green and blue, 0 to 255
