"""Photos: which paths are acceptable, and how a photo is opened; only files in the catalogue's folder, never a network.

What a photo must be like, and within which bounds a process of its own opens it, is said in `decoding`.
"""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from molar_retrieval.catalog.decoders import headers, opened
from molar_retrieval.catalog.decoding import RefusedError, refusal
from molar_retrieval.errors import DataError

ENOUGH_PIXELS = 1 << 22  # larger photos are reduced: no encoder looks at more, and a batch fits in memory
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
FOLDER = "images"
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+:)?//|^(data|file|mailto):", re.IGNORECASE)


class ImageError(DataError):
    """A photo cannot be used; the reason says why in a few words, such as ``missing``."""

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(f"photo {where!r}: {reason}", "replace the file or leave the item without a photo")
        self.reason = reason


class PhotoFolder:
    """The photos of the catalogue in a folder."""

    def __init__(self, root: Path, images: str = FOLDER) -> None:
        self.root = os.path.realpath(root)
        self._images = images

    def vet_all(self, names: Iterable[str]) -> "list[tuple[str, int] | ImageError]":
        """Check photos by paths, relative to the folder or to that of images in it, and headers; none is decoded.

        Of each there is the path relative to the folder with the file's size in bytes, or the reason against it.
        """
        asked = list(names)
        found = [self._place(named) for named in asked]
        there = [one[0] for one in found if not isinstance(one, ImageError)]
        reasons = iter(headers([f"{self.root}/{relative}" for relative in there]))
        return [
            one if isinstance(one, ImageError) or (reason := next(reasons)) is None else ImageError(reason, named)
            for named, one in zip(asked, found, strict=True)
        ]

    def _place(self, named: str) -> "tuple[str, int] | ImageError":
        try:
            relative = _normalised(named)
            for path in (relative, f"{self._images}/{relative}"):
                if (size := self._size(path, named)) is not None:
                    return path, size
        except ImageError as error:
            return error
        return ImageError("there is no such file", named)

    def find(self, item_id: str) -> str | None:
        """The item's id with one of the usual extensions in the folder of images; None where there is no such file."""
        if "\0" in item_id:
            return None
        for extension in EXTENSIONS:
            relative = f"{self._images}/{item_id}{extension}"
            if ".." not in relative.split("/") and os.path.exists(f"{self.root}/{relative}"):  # noqa: PTH110
                return relative
        return None

    def path(self, relative: str) -> str:
        """The full path of an existing file in the folder; an ImageError if it is missing, not a file, or outside."""
        relative = _normalised(relative)
        if self._size(relative, relative) is None:
            raise ImageError("there is no such file", relative)
        return f"{self.root}/{relative}"

    def _size(self, relative: str, named: str) -> int | None:
        try:
            real = os.path.realpath(f"{self.root}/{relative}", strict=True)
            found = os.stat(real)  # noqa: PTH116
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ImageError(f"cannot be read: {error}", named) from error
        if real != self.root and not real.startswith(self.root + os.sep):
            raise ImageError("it is a link out of the catalogue's folder", named)
        if not stat.S_ISREG(found.st_mode):
            raise ImageError(f"{relative.rpartition('/')[2]!r} is not a file", named)
        return found.st_size


def open_image(folder: Path, relative: str) -> Image.Image:
    """Decode a photo: RGB, upright by its EXIF orientation, transparency on white, first frame, at most 4 megapixels.

    An ImageError says that it is missing, truncated, too large, outside of the folder, no image, or a URL; a
    BackendError, that the program that opens photos does not start.
    """
    return _decoded(PhotoFolder(folder).path(relative), relative)


def open_file(path: Path) -> Image.Image:
    """Decode a photo that belongs to no catalogue, as :func:`open_image` does, with the same errors."""
    return _decoded(os.path.abspath(path), str(path))  # noqa: PTH100


def open_bytes(content: bytes) -> Image.Image:
    """Decode the content of a photo's file, as :func:`open_image` does, with the same errors."""
    return _decoded(content, f"{len(content):,} bytes")


def _decoded(photo: str | bytes, name: str) -> Image.Image:
    try:
        return opened(photo, ENOUGH_PIXELS)
    except RefusedError as refused:
        raise ImageError(str(refused), name) from refused


def accepted(image: Image.Image) -> Image.Image:
    """A decoded photo of a caller's own; an ImageError if it is larger or longer than photos may be."""
    if reason := refusal(*image.size):
        raise ImageError(reason, f"{image.width} × {image.height}")
    return image


def _normalised(named: str) -> str:
    if "\0" in named:
        raise ImageError("the path has a NUL character", named)
    if _URL.match(named):
        raise ImageError("it is a URL, and photos are not fetched from the network", named)
    named = named.replace("\\", "/")
    if named.startswith("/") or re.match(r"^[A-Za-z]:", named):
        raise ImageError("the path is not relative to the catalogue's folder", named)
    relative = os.path.normpath(named).replace(os.sep, "/")
    if relative == ".." or relative.startswith("../"):
        raise ImageError("the path leaves the catalogue's folder", named)
    return relative
