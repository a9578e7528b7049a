"""Photos: which paths are acceptable, how a photo is opened and kept; only files in the catalogue's folder, no network.

What a photo must be like, and within which bounds a process of its own opens it, is said in `image_decoder`. A few such
processes are asked, each by one thread at a time; one that ends over a photo, by its bounds or by a fault in a library,
costs that photo alone.
"""

import atexit
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import PIL
from PIL import Image

from molar_retrieval.data import image_decoder
from molar_retrieval.data.image_decoder import refusal
from molar_retrieval.data.schema import CatalogueConfig
from molar_retrieval.errors import BackendError, DataError, RequestError, shown
from molar_retrieval.workspace.files import disk_error, sync_folder

_MODULE = Path(image_decoder.__file__).stem
_PROGRAM = f"import sys; sys.path += sys.argv[1:]; import {_MODULE}; {_MODULE}.main()"
_PLACES = (str(Path(image_decoder.__file__).parent), str(Path(PIL.__path__[0]).parent))
_PIPE = 1 << 20  # bytes that a pipe holds, where that can be chosen
_TIMES = {-getattr(signal, name) for name in ("SIGPROF", "SIGALRM") if hasattr(signal, name)}
_ATTEMPTS = 2  # a process may end for reasons of its machine
_PATHS = 256  # in one request

_idle: list["_Decoder"] = []
_one_large = threading.Lock()


@dataclass
class _DiedError(Exception):
    """The process ended over a request: why the photo is not used, and whether asking again would take as long."""

    reason: str
    final: bool


class _Decoder:
    """One process."""

    def __init__(self) -> None:
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # each arena would count as memory taken
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, *_PLACES]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=environment, pipesize=_PIPE
            )
        except OSError as error:
            raise _no_decoder(str(error)) from error
        self._requests, self._answers = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        try:
            if (said := self._answers.readline()) != image_decoder.READY:
                said += self._answers.read()
                raise _no_decoder(said.decode(errors="replace").strip().rpartition("\n")[2])
        except BaseException:
            self.end()
            raise

    def ask(self, request: dict[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """The answer to a request; a :class:`_DiedError` where there is none."""
        try:
            self._requests.write(json.dumps(request | {"bytes": len(data)}).encode() + b"\n")
            self._requests.write(data)
            self._requests.flush()
            line = self._answers.readline()
            if line.endswith(b"\n"):
                answer = json.loads(line)
                pixels = self._answers.read(answer["bytes"])
                if len(pixels) == answer["bytes"]:
                    return answer, pixels
        except BrokenPipeError:
            pass
        slow, costly = self._process.wait() in _TIMES, image_decoder.TOO_COSTLY.removeprefix("it ")
        raise _DiedError(image_decoder.TOO_SLOW if slow else f"opening it failed: it is damaged, or {costly}", slow)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._requests, self._answers):
            with suppress(OSError):  # what was not sent any more
                stream.close()


def headers(paths: Sequence[str]) -> list[str | None]:
    """Why photos cannot be used, by what their headers say; None where they can."""
    starts = range(0, len(paths), _PATHS)
    return [reason for start in starts for reason in _headers(paths[start : start + _PATHS])]


def _headers(paths: Sequence[str]) -> list[str | None]:
    try:
        reasons: list[str | None] = _asked({"task": "headers", "paths": paths})[0]["reasons"]
    except _DiedError as died:  # over one of them
        return [died.reason] if len(paths) == 1 else [reason for path in paths for reason in _headers([path])]
    return reasons


def looked_at(data: bytes) -> tuple[dict[str, Any], Image.Image | None]:
    """What is to be measured of a file's content: facts about the photo, and a copy of at most 192 pixels, or None.

    The facts are ``state`` (a name of :class:`~molar_retrieval.quality.photos.PhotoState`), ``width``, ``height``,
    ``format`` and ``frames``.
    """
    try:
        answer, raw = _asked({"task": "look"}, data)
    except _DiedError:
        answer, raw = {"reason": image_decoder.TOO_COSTLY}, b""
    if "reason" in answer:
        return {"state": "TOO_LARGE", "width": 0, "height": 0, "format": "", "frames": 0}, None
    return answer, _pixels(answer, raw) if raw else None


def _pixels(answer: dict[str, Any], raw: bytes) -> Image.Image:
    return Image.frombytes("RGB", tuple(answer["size"]), raw)


def _asked(request: dict[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
    answer, pixels = _answered(request, data)
    if "large" in answer:
        with _one_large:
            return _answered(request | {"large": True}, data)
    return answer, pixels


def _answered(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            decoder = _idle.pop()
        except IndexError:
            decoder = _Decoder()
        try:
            answer = decoder.ask(request, data)
        except _DiedError as died:
            decoder.end()
            if died.final or attempt == _ATTEMPTS:
                raise
        except BaseException:  # interrupted: its answer may still come
            decoder.end()
            raise
        else:
            _idle.append(decoder)
            return answer
    raise AssertionError


def _no_decoder(why: str) -> BackendError:
    hint = f"see whether {sys.executable or 'this Python'} can start others and import PIL"
    return BackendError(f"the program that opens photos does not start: {why}", hint)


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


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
    """A photo by its path or its file's content."""
    request: dict[str, Any] = {"task": "open", "pixels": ENOUGH_PIXELS}
    try:
        answer, raw = _asked(request, photo) if isinstance(photo, bytes) else _asked(request | {"path": photo})
    except _DiedError as died:
        raise ImageError(died.reason, name) from died
    if "reason" in answer:
        raise ImageError(answer["reason"], name)
    return _pixels(answer, raw)


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


_EXTENSION = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_LONGEST = 200  # bytes of an id that names a file


def keep_photo(folder: Path, item_id: str, content: bytes) -> str:
    """Write the photo of an item, in place of the one that it had under its id; the path below the catalogue's folder.

    Concurrent readers find the previous photo or this one. The next `molar update` sees it.

    Raises:
        RequestError: If the id cannot name a file, or the photo is no JPEG, PNG or WebP.
        ImageError: If it cannot be opened within the bounds of photos.
        DiskError: If it cannot be written.
    """
    if item_id.startswith(".") or set(item_id) & set("/\\\0:") or len(os.fsencode(item_id)) > _LONGEST:
        raise RequestError(
            f"the id {shown(item_id)} cannot name a file",
            "put the photo into the catalogue's folder, and name its path in the items file",
        )
    open_bytes(content)
    found = looked_at(content)[0]["format"]
    if (extension := _EXTENSION.get(found)) is None:
        raise RequestError(f"photos as {found or 'this'} are not kept", "send a JPEG, a PNG or a WebP")
    images = CatalogueConfig.read(folder).items.images
    place = folder / images
    if not place.resolve().is_relative_to(folder.resolve()):
        raise RequestError(f"{images} is a link out of the catalogue's folder", "make it a folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
        temporary = place / f".{item_id}{extension}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place / f"{item_id}{extension}")
        for other in EXTENSIONS:
            if other != extension:
                (place / f"{item_id}{other}").unlink(missing_ok=True)
        sync_folder(place)
    except OSError as error:
        raise disk_error(error) or error from error
    return f"{images}/{item_id}{extension}"
