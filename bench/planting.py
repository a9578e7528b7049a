"""Faults planted at known places of a catalogue, to see whether a check finds them there and only there.

A planter is a function of a :class:`Shop` that damages some items and says which; it is registered under the kind of
fault that must be found. Those of other kinds may be added in other modules by the same decorator.
"""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Planter = Callable[["Shop"], Iterable[str]]
PLANTERS: dict[str, Planter] = {}
"""By kind of fault; a planter returns the ids of the items, or the names of the columns, that must be found."""

BRINGS = {
    "photo.placeholder": ("photo.blank",),
    "photo.blank": ("photo.near_duplicate", "photo.extreme_aspect", "photo.tiny"),
    "text.repeated": ("text.short", "text.filler"),
}
"""Which planted faults bring others along: blank photos are equal, a brighter white blouse is blank."""


def planter(kind: str) -> Callable[[Planter], Planter]:
    """Register a planter under the kind of fault that it plants."""

    def register(plant: Planter) -> Planter:
        PLANTERS[kind] = plant
        return plant

    return register


@dataclass
class Shop:
    """A copy of a catalogue that may be damaged.

    Attributes:
        folder: Its own.
        items: Rows of its items file.
        random: Of everything random.
        each: How many items get a fault of one kind.
    """

    folder: Path
    items: list[dict[str, Any]]
    random: np.random.Generator
    each: int = 8
    schema: dict[str, pa.DataType] = field(default_factory=dict)
    _used: dict[str, set[int]] = field(default_factory=dict)

    @classmethod
    def copy(cls, catalogue: Path, folder: Path, *, seed: int = 0, each: int = 8) -> "Shop":
        """Copy a catalogue with a Parquet items file; photos too."""
        folder.mkdir(parents=True)
        table = pq.read_table(catalogue / "items.parquet")
        for name in ("catalog.toml", "interactions.parquet", "users.parquet"):
            if (catalogue / name).exists():
                shutil.copyfile(catalogue / name, folder / name)
        for path in (catalogue / "images").rglob("*"):
            if path.is_file():
                target = folder / path.relative_to(catalogue)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        schema = {field.name: field.type for field in table.schema}
        return cls(folder, table.to_pylist(), np.random.default_rng(seed), each, schema)

    def take(self, pool: str, n: int | None = None) -> list[dict[str, Any]]:
        """Items without a fault of this pool so far: ``photo``, ``text``, or a column's name."""
        used = self._used.setdefault(pool, set())
        able = [
            row
            for row, item in enumerate(self.items)
            if row not in used
            and (pool != "photo" or item.get("image"))
            and (pool != "text" or (item.get("title") and item.get("description")))
            and (pool not in self.schema or pool in ("image", "title") or item.get(pool) is not None)
        ]
        chosen = self.random.choice(able, min(n or self.each, len(able)), replace=False).tolist()
        used.update(chosen)
        return [self.items[row] for row in chosen]

    def path(self, item: dict[str, Any]) -> Path:
        """Where an item's photo is."""
        return self.folder / item["image"]

    def photo(self, item: dict[str, Any]) -> Image.Image:
        """An item's photo."""
        with Image.open(self.path(item)) as image:
            return image.convert("RGB")

    def save(self, item: dict[str, Any], image: Image.Image, **options: Any) -> None:
        """Replace an item's photo."""
        image.save(self.path(item), **options)

    def write(self) -> None:
        """Write the items file."""
        names = list(dict.fromkeys(name for item in self.items for name in item))
        arrays = [pa.array([item.get(name) for item in self.items], self.schema.get(name)) for name in names]
        pq.write_table(pa.table(arrays, names), self.folder / "items.parquet")


def ids(items: Iterable[dict[str, Any]]) -> list[str]:
    return [item["item_id"] for item in items]
