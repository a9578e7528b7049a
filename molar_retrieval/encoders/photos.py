"""Photos on their way into an image model: bounded in area and in aspect ratio."""

import math

from PIL import Image, ImageOps

from molar_retrieval.data.image_decoder import MAX_PIXELS
from molar_retrieval.data.images import ImageError

_WHITE = (255, 255, 255)


def bounded(image: Image.Image, pixels: int) -> Image.Image:
    """The image, shrunk to four times the area that the model will use: detail for the model's own resizing."""
    surplus = image.width * image.height / (4 * pixels)
    if surplus <= 1:
        return image
    scale = 1 / math.sqrt(surplus)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def within_aspect(image: Image.Image, ratio: int) -> Image.Image:
    """The image, its short side padded with white where the long side is more than ``ratio`` times as long.

    An ImageError says that it would become larger than photos may be.
    """
    width, height = image.size
    if max(width, height) <= ratio * min(width, height):
        return image
    size = (max(width, math.ceil(height / ratio)), max(height, math.ceil(width / ratio)))
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"it is too long: {width:,} × {height:,} pixels")
    canvas = Image.new("RGB", size, _WHITE)
    canvas.paste(image, ((size[0] - width) // 2, (size[1] - height) // 2))
    return canvas


def square(image: Image.Image, side: int) -> Image.Image:
    """The whole image on a white square; shop photos are white around, and cropping would cut the product."""
    limited = within_aspect(image, side)
    return ImageOps.pad(bounded(limited, side * side), (side, side), Image.Resampling.BICUBIC, color=_WHITE)
