"""Faults of photos: missing, broken, cut, blank, or the same as another's."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance
from planting import Shop, ids, planter


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
