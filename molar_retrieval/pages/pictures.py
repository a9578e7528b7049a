"""Photos of a catalogue as small data URIs, so that a page needs no other file."""

import base64
from functools import cache
from io import BytesIO
from pathlib import Path

from molar_retrieval.catalog.images import ImageError, open_image

SIZE = (112, 150)


def photo_uri(folder: Path, photo: str, size: tuple[int, int] = SIZE, quality: int = 72) -> str | None:
    """The :func:`small_copy` of a photo as a data URI; None where it cannot be read."""
    copy = small_copy(folder, photo, size, quality)
    return None if copy is None else "data:image/jpeg;base64," + base64.b64encode(copy).decode("ascii")


def small_copy(folder: Path, photo: str, size: tuple[int, int] = SIZE, quality: int = 72) -> bytes | None:
    """A small copy of a photo, of ``size`` pixels at most, as JPEG; None where it cannot be read."""
    try:
        image = open_image(folder, photo)
    except ImageError:
        return None
    image.thumbnail(size)
    file = BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


class Pictures:
    """Small versions of a catalogue's photos, each made once."""

    def __init__(self, catalogue: Path) -> None:
        self._made = cache(lambda photo: photo_uri(catalogue, photo))

    def uri(self, photo: str | None) -> str | None:
        """A data URI; None where there is no photo, or none that can be read."""
        return None if photo is None else self._made(photo)
