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
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

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


@planter("photo.missing")
def missing(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for item in chosen:
        item["image"] = item["image"].replace(".", "-gone.")
    return ids(chosen)


@planter("photo.outside")
def outside(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for place, item in enumerate(chosen):
        paths = ("../elsewhere.jpg", "/etc/hostname", "https://example.com/a.jpg", "C:\\photos\\a.jpg")
        item["image"] = paths[place % len(paths)]
    return ids(chosen)


@planter("photo.unreadable")
def unreadable(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for place, item in enumerate(chosen):
        shop.path(item).write_bytes((b"", b"<html>not found</html>", b"\x00" * 999)[place % 3])
    return ids(chosen)


@planter("photo.truncated")
def truncated(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for place, item in enumerate(chosen):
        data = shop.path(item).read_bytes()
        shop.path(item).write_bytes(data[: int(len(data) * (0.4, 0.7, 0.95)[place % 3])])
    return ids(chosen)


@planter("photo.too_large")
def too_large(shop: Shop) -> list[str]:
    chosen = shop.take("photo", 2)
    for item in chosen:
        item["image"] = str(Path(item["image"]).with_suffix(".huge.png"))
        Image.new("1", (12_000, 9_000), 1).save(shop.path(item))
    return ids(chosen)


@planter("photo.large")
def large(shop: Shop) -> list[str]:
    chosen = shop.take("photo", 2)
    for item in chosen:
        photo = shop.photo(item)
        scale = (42e6 / (photo.width * photo.height)) ** 0.5
        shop.save(item, photo.resize((int(photo.width * scale), int(photo.height * scale))), quality=70)
    return ids(chosen)


@planter("photo.wrong_extension")
def wrong_extension(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for item in chosen:
        shop.save(item, shop.photo(item), format="PNG")
    return ids(chosen)


@planter("photo.animated")
def animated(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for place, item in enumerate(chosen):
        photo = shop.photo(item)
        item["image"] = str(Path(item["image"]).with_suffix((".gif", ".webp")[place % 2]))
        shop.save(item, photo, save_all=True, append_images=[photo.rotate(90), photo.rotate(180)], duration=200)
    return ids(chosen)


@planter("photo.blank")
def blank(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for place, item in enumerate(chosen):
        noise = shop.random.normal((255, 128, 20)[place % 3], (0, 1.5, 2)[place % 3], (220, 200, 3))
        shop.save(item, Image.fromarray(np.clip(noise + place, 0, 255).astype(np.uint8)))
    return ids(chosen)


@planter("photo.tiny")
def tiny(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for item in chosen:
        shop.save(item, shop.photo(item).resize((40, 40)))
    return ids(chosen)


@planter("photo.extreme_aspect")
def extreme_aspect(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for item in chosen:
        shop.save(item, shop.photo(item).resize((900, 120)))
    return ids(chosen)


@planter("photo.text_only")
def text_only(shop: Shop) -> list[str]:
    chosen = shop.take("photo")
    for place, item in enumerate(chosen):
        ground, ink = (("white", "black"), ("#f4f1e8", "#333333"), ("#20242c", "white"))[place % 3]
        canvas = Image.new("RGB", (400, 400), ground)
        pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(30)
        words = f"{item['title']} is not for sale in your country at the moment, please ask".split()
        for line in range(0, len(words), 3):
            pen.text((25, 30 + line // 3 * 50), " ".join(words[line : line + 3]), fill=ink, font=font)
        shop.save(item, canvas)
    return ids(chosen)


@planter("photo.placeholder")
def placeholder(shop: Shop) -> list[str]:
    chosen = shop.take("photo", max(shop.each, 6))
    canvas = Image.new("RGB", (300, 300), "#dddddd")
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((70, 90, 230, 210), outline="#999999", width=8)
    pen.ellipse((115, 115, 185, 185), outline="#999999", width=8)
    for item in chosen:
        shop.save(item, canvas)
    return ids(chosen)


@planter("photo.duplicate")
def duplicate(shop: Shop) -> list[str]:
    chosen = shop.take("photo", shop.each // 2 * 2)
    for item, other in zip(chosen[::2], chosen[1::2], strict=True):
        shutil.copyfile(shop.path(item), shop.path(other))
    return ids(chosen)


def _cut(photo: Image.Image, share: float) -> Image.Image:
    wide, high = int(photo.width * share), int(photo.height * share)
    return photo.crop((wide, high, photo.width - wide, photo.height - high))


def _marked(photo: Image.Image) -> Image.Image:
    ImageDraw.Draw(photo).text((photo.width * 0.55, photo.height * 0.92), "shop.example", fill=(120, 120, 120))
    return photo


ALTERED: tuple[tuple[Callable[[Image.Image], Image.Image], int], ...] = (
    (lambda photo: photo, 35),
    (lambda photo: photo.resize((int(photo.width * 0.6), int(photo.height * 0.6))), 85),
    (lambda photo: ImageEnhance.Brightness(photo).enhance(1.1), 85),
    (lambda photo: ImageEnhance.Contrast(photo).enhance(0.85), 85),
    (lambda photo: _cut(photo, 0.02), 85),
    (lambda photo: _cut(photo, 0.04), 85),
    (_marked, 85),
)
"""What happens to a photo on its way to a near duplicate, and the quality of the JPEG."""


@planter("photo.near_duplicate")
def near_duplicate(shop: Shop) -> list[str]:
    chosen = shop.take("photo", 2 * len(ALTERED) * max(1, shop.each // 6))
    for place, (item, other) in enumerate(zip(chosen[::2], chosen[1::2], strict=False)):
        change, quality = ALTERED[place % len(ALTERED)]
        shop.save(other, change(shop.photo(item)), quality=quality)
    return ids(chosen[: len(chosen) // 2 * 2])


@planter("text.missing")
def no_text(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for item in chosen:
        item["title"] = item["description"] = None
    return ids(chosen)


@planter("text.no_title")
def no_title(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        item["title"] = (None, "", "  ")[place % 3]
    return ids(chosen)


@planter("text.short")
def short(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        if place % 2:
            item["title"] = "A"
        else:
            item["description"] = "Nice."
    return ids(chosen)


@planter("text.filler")
def filler(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    words = (
        "N/A",
        "null",
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
        "{{ product.description }}",
        "TBD",
    )
    for place, item in enumerate(chosen):
        item["description"] = words[place % len(words)]
    return ids(chosen)


@planter("text.html")
def html(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        form = ("<p>{}</p>", "{}<br/>", "{} &amp; more&nbsp;", '<span style="color:red">{}</span>')[place % 4]
        item["description"] = form.format(item["description"])
    return ids(chosen)


@planter("text.mojibake")
def mojibake(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    words = ("café", "“soft” and light", "Größe: für alle", "it’s yours", "5 € – naïve", "Łódź")
    for place, item in enumerate(chosen):
        broken = words[place % len(words)].encode("utf-8").decode("cp1252", "ignore")
        item["description"] = f"{item['description']} {broken}"
    return ids(chosen)


@planter("text.control_tokens")
def control_tokens(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    tokens = ("<|im_end|>", "[SEP]", "</s>", "<pad>", "\x07", "<|image_pad|>", "<extra_id_3>", "\u202e")
    for place, item in enumerate(chosen):
        item["title"] = f"{item['title']} {tokens[place % len(tokens)]}"
    return ids(chosen)


FOREIGN = (
    "Ein schönes Stück für jeden Tag, das mit der Zeit nur besser wird und sich gut mit anderen Farben verträgt.",
    "Une belle pièce pour tous les jours, avec des détails cousus à la main et un tissu qui est doux sur la peau.",
    "Una prenda cómoda para todos los días, hecha con algodón que es suave y no pierde su forma con los lavados.",
    "Een mooi stuk voor elke dag, dat met de jaren beter wordt en niet snel uit de mode is.",
    "Удобная вещь на каждый день, которая хорошо сочетается с другими цветами.",
    "毎日使える心地よい一着です。やわらかい生地で長く楽しめます。",
)


@planter("text.language")
def language(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        item["description"] = f"{FOREIGN[place % len(FOREIGN)]} {item['item_id']}"
    return ids(chosen)


@planter("text.mixed")
def mixed(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        own = "This is one of the pieces that we like best, and it is made for all of you."
        item["description"] = f"{own} {FOREIGN[place % len(FOREIGN)]}"
    return ids(chosen)


@planter("text.title_is_description")
def title_is_description(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for item in chosen:
        item["description"] = item["title"].upper()
    return ids(chosen)


@planter("text.repeated")
def repeated(shop: Shop) -> list[str]:
    chosen = shop.take("text", max(shop.each, 8))
    for item in chosen:
        item["description"] = "The description of this item follows as soon as our photographer is back."
    return ids(chosen)


@planter("text.boilerplate")
def boilerplate(shop: Shop) -> list[str]:
    chosen = shop.take("text", len(shop.items) // 8 + 20)
    for item in chosen:
        common = "Free delivery from 50. Returns within thirty days. Ask us anything at any time of the day."
        item["description"] = f"{common} No. {item['item_id']}."
    return ids(chosen)


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
