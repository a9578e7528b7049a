"""Photos: which paths are acceptable, what a header must say, how a photo is opened.

Only files inside the catalogue's folder are read, never the network, and only formats that Pillow decodes by
itself (no PostScript).
"""

import os
import re
import stat
import threading
import warnings
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from PIL import Image, ImageOps

from molar_retrieval.errors import DataError

MAX_PIXELS = 100_000_000
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
FOLDER = "images"
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+:)?//|^(data|file|mailto):", re.IGNORECASE)
_warnings_lock = threading.Lock()


class ImageError(DataError):
    """A photo cannot be used.

    Args:
        reason: Why, in a few words: ``missing``, ``truncated`` …
        where: The path as the catalogue names it.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(f"photo {where!r}: {reason}", "replace the file or leave the item without a photo")
        self.reason = reason


class PhotoFolder:
    """The photos of one catalogue; keeps what it learned about folders, so vetting many photos is cheap.

    Args:
        root: The catalogue's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self._real: dict[str, str] = {}

    def vet(self, named: str) -> tuple[str, int]:
        """Check a photo by its path and header, without decoding it.

        Args:
            named: A path relative to the catalogue's folder, or to ``images/`` in it.

        Returns:
            The path relative to the catalogue's folder, and the file's size in bytes.

        Raises:
            ImageError: With the reason.
        """
        relative = _normalised(named)
        size = self._size(relative, named)
        if size is None and (size := self._size(f"{FOLDER}/{relative}", named)) is not None:
            relative = f"{FOLDER}/{relative}"
        if size is None:
            raise ImageError("there is no such file", named)
        _open(os.path.join(self.root, relative), named).close()  # noqa: PTH118 (a million paths)
        return relative, size

    def find(self, item_id: str) -> str | None:
        """``images/<item_id>`` with one of the usual extensions, or None where there is no such file."""
        if "\0" in item_id:
            return None
        for extension in EXTENSIONS:
            relative = f"{FOLDER}/{item_id}{extension}"
            if ".." not in relative.split("/") and os.path.exists(f"{self.root}/{relative}"):  # noqa: PTH110
                return relative
        return None

    def path(self, relative: str) -> str:
        """The full path of an existing file inside the folder.

        Raises:
            ImageError: If it is missing, not a file, or outside.
        """
        relative = _normalised(relative)
        if self._size(relative, relative) is None:
            raise ImageError("there is no such file", relative)
        return f"{self.root}/{relative}"

    def _size(self, relative: str, named: str) -> int | None:
        folder, _, name = relative.rpartition("/")
        path = f"{self.root}/{relative}"
        try:
            found = os.lstat(path)
            inside = self._real_folder(folder)
            if stat.S_ISLNK(found.st_mode):
                inside, found = os.path.realpath(path), os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ImageError(f"cannot be read: {error}", named) from error
        if inside != self.root and not inside.startswith(self.root + os.sep):
            raise ImageError("it is a link out of the catalogue's folder", named)
        if not stat.S_ISREG(found.st_mode):
            raise ImageError(f"{name!r} is not a file", named)
        return found.st_size

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(f"{self.root}/{folder}" if folder else self.root)
        return self._real[folder]


def open_image(folder: Path, relative: str) -> Image.Image:
    """Decode a photo: RGB, upright by its EXIF orientation, transparency on white, first frame.

    Args:
        folder: The catalogue's folder.
        relative: The photo's path in it.

    Raises:
        ImageError: For a file that is missing, truncated, larger than 100 megapixels, outside of the folder, or no
            image, and for a URL.
    """
    path = _photo_folder(str(folder)).path(relative)
    with _open(path, relative) as image:
        try:
            image.load()
            return _as_rgb(ImageOps.exif_transpose(image))
        except Exception as error:  # Pillow's decoders raise whatever they stumble over
            raise ImageError(f"truncated or damaged: {error}", relative) from error


@lru_cache(maxsize=8)
def _photo_folder(folder: str) -> PhotoFolder:
    return PhotoFolder(Path(folder))


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


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


def _open(path: str, named: str) -> Image.Image:
    """Open a photo lazily: only its header is read."""
    formats = _formats()
    try:
        # Pillow warns from 89 megapixels on and refuses at 179; the limit here is checked below.
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=formats)
    except Image.DecompressionBombError:
        _too_large(named)
    except Exception as error:  # Pillow's parsers raise whatever they stumble over
        reason = "it is empty" if os.path.getsize(path) == 0 else "it is not an image that can be read"  # noqa: PTH202
        raise ImageError(reason, named) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        _too_large(named)
    return image


def _too_large(named: str) -> NoReturn:
    raise ImageError("it is larger than 100 megapixels", named)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16 bits a channel
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
