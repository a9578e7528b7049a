"""The program that opens photos: a process of its own, with bounds on what it opens, on its memory and on its time.

Nobody knows what a photo does to the libraries that read it, and already its header and its EXIF data can ask for
gigabytes. So no photo is opened anywhere else: `images` starts this program, which imports only Pillow, and asks it.
A request is a line of JSON, and as many bytes as it announces; so is an answer.
"""

import importlib
import io
import json
import os
import select
import signal
import stat
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any, BinaryIO

from PIL import Image, ImageFile, ImageOps

MAX_BYTES = 64 << 20  # of a photo's file
MAX_PIXELS = 100_000_000
MAX_SIDE = 20_000
MAX_ASPECT = 50  # how many times one side may be as long as the other
LARGE_PIXELS = 24_000_000  # photos with more pixels are opened one at a time, with more memory
MEMORY, LARGE_MEMORY = 1 << 30, 3 << 30  # bytes that this process may take
SECONDS = 20  # time of the processor for one photo
PATIENCE = 120  # seconds until a photo that does not get ready at all, as on a server that does not answer, is given up
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")  # what Pillow decodes: no PostScript

READY = b"ready\n"
TOO_COSTLY = f"it takes more memory than a photo may, {MEMORY >> 30} GiB, or {LARGE_MEMORY >> 30} GiB if it is large"
TOO_SLOW = f"it takes more than {SECONDS} s to open"
_TOO_LARGE = f"it is larger than {MAX_PIXELS // 1_000_000} megapixels"
_FRAMES, _FRAME_BYTES = 1_000, 8 << 20  # what is read of an animation, or of a file's pages, to count them
_BAND = 1 << 20  # pixels that are converted at a time
_SMALL = 192  # side of the copy that is measured


class RefusedError(Exception):
    """A photo that is not used, and why."""


class LargeError(Exception):
    """A photo that has to be asked for alone."""


def refusal(width: int, height: int) -> str | None:
    """Why photos of some size are not used; None where they are."""
    if width * height > MAX_PIXELS:
        return _TOO_LARGE
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"it is more than {MAX_ASPECT} times as long as wide, or as wide as long"
    return f"one of its sides is longer than {MAX_SIDE:,} pixels" if max(width, height) > MAX_SIDE else None


def main() -> None:
    """Answer requests until the input or the reader ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent process
    answers = os.fdopen(os.dup(1), "wb")
    _prepare()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what a library says must not come between the answers
        os.dup2(nowhere, stream)
    threading.Thread(target=_end_with, args=(answers.fileno(),), daemon=True).start()
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        data = sys.stdin.buffer.read(request.get("bytes", 0))
        answer, pixels = _answered(request, data)
        answers.write(json.dumps(answer | {"bytes": len(pixels)}).encode() + b"\n")
        answers.write(pixels)
        answers.flush()


def _prepare() -> None:
    with suppress(ImportError):  # where there is none, only the bounds on the photos hold
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _bound_memory(MEMORY)
    warnings.simplefilter("ignore")
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    for name in ("Jpeg", "Mpo", "Png", "WebP", "Gif", "Bmp", "Tiff", "Avif", "Ppm"):
        with suppress(ImportError):  # an older Pillow
            importlib.import_module(f"PIL.{name}ImagePlugin").__dict__["DEFAULT_MAX_THREADS"] = 1  # of AVIF


def _bound_memory(size: int) -> None:
    if sys.platform != "linux":  # others have no such limit, or none that counts
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = LARGE_MEMORY if hard == resource.RLIM_INFINITY else min(hard, LARGE_MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (min(size, most), most))


def _end_with(reader: int) -> None:
    """End as soon as the reader of the answers is gone, also in the middle of a photo."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(reader, 0)  # errors are always reported
        poll.poll()
        os._exit(0)


def _answered(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    task, large = request["task"], bool(request.get("large"))
    _bound_memory(LARGE_MEMORY if large else MEMORY)
    try:
        if task == "headers":
            return {"reasons": [_header(path) for path in request["paths"]]}, b""
        _start_clock()
        if task == "look":
            return _look(data, large=large)
        file = _file(request["path"]) if "path" in request else io.BytesIO(data)
        image = _open(file, request["pixels"], large=large)
        return {"size": image.size}, image.tobytes()
    except RefusedError as refused:
        return {"reason": str(refused)}, b""
    except MemoryError:
        return {"reason": TOO_COSTLY}, b""
    except LargeError:
        return {"large": True}, b""
    finally:
        _start_clock(0, 0)


def _start_clock(seconds: float = SECONDS, patience: float = PATIENCE) -> None:
    """End this process when they are over: also in the middle of a library."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, patience)


def _header(path: str) -> str | None:
    """Why a photo is not used, by its header."""
    _start_clock()
    try:
        with _file(path) as file:
            _opened(file).close()
    except RefusedError as refused:
        return str(refused)
    except MemoryError:
        return TOO_COSTLY
    return None


def _file(path: str) -> BinaryIO:
    try:
        # A pipe that was put in the place of a file is not waited for.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise RefusedError(f"cannot be read: {error.strerror}") from error
    file = os.fdopen(number, "rb")
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= MAX_BYTES:
        file.close()
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError("it is not a file")
        raise RefusedError(f"it is larger than {MAX_BYTES >> 20} MiB" if found.st_size else "it is empty")
    return file


def _parsed(file: BinaryIO) -> Image.Image:
    """A photo of which only the header is read."""
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever they stumble over
        raise RefusedError("it is not an image that can be read") from error
    finally:
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # of frames: Pillow refuses twice as many


def _opened(file: BinaryIO) -> Image.Image:
    """A photo of which only the header is read, within the bounds."""
    image = _parsed(file)
    if reason := refusal(*image.size):
        raise RefusedError(reason)
    return image


def _open(file: BinaryIO, pixels: int, *, large: bool) -> Image.Image:
    """A photo upright, RGB, transparency on white, first frame; reduced to at most so many pixels."""
    with file, _opened(file) as image:
        _not_large(image, large=large)
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            whole = as_rgb(image)
        except MemoryError:
            raise
        except Image.DecompressionBombError as error:  # of a frame
            raise RefusedError(_TOO_LARGE) from error
        except Exception as error:  # as above
            raise RefusedError(f"truncated or damaged: {error}") from error
    factor = -int(-((whole.width * whole.height / pixels) ** 0.5) // 1)
    return whole.reduce(factor) if factor > 1 else whole


def _not_large(image: Image.Image, *, large: bool) -> None:
    if image.width * image.height > LARGE_PIXELS and not large:
        raise LargeError


def _look(data: bytes, *, large: bool) -> tuple[dict[str, Any], bytes]:
    facts: dict[str, Any] = {"state": "UNREADABLE", "width": 0, "height": 0, "format": "", "frames": 0, "size": (0, 0)}
    try:
        image = _parsed(io.BytesIO(data))
    except MemoryError:
        return facts | {"state": "TOO_LARGE"}, b""
    except RefusedError:
        return facts, b""
    with image:
        facts.update(width=image.width, height=image.height, format=image.format)
        if refusal(*image.size):
            return facts | {"state": "TOO_LARGE"}, b""
        _not_large(image, large=large)
        try:
            facts["frames"] = _frames(image, data)
            small = _small(image)
        except (Image.DecompressionBombError, MemoryError):
            return facts | {"state": "TOO_LARGE"}, b""
        except Exception:  # as above
            return facts | {"state": "TRUNCATED"}, b""
    return facts | {"state": "GOOD", "size": small.size}, small.tobytes()


def _frames(image: Image.Image, data: bytes) -> int:
    if image.format == "MPO":
        return 1
    if image.format == "GIF" and len(data) > _FRAME_BYTES:
        with Image.open(io.BytesIO(data[:_FRAME_BYTES]), formats=["GIF"]) as beginning:
            return int(getattr(beginning, "n_frames", 1))
    if image.format == "TIFF":
        for n in range(1, _FRAMES):
            try:
                image.seek(n)
            except EOFError:
                image.seek(0)
                return n
        image.seek(0)
        return _FRAMES
    return min(int(getattr(image, "n_frames", 1)), 65_535)


def _small(image: Image.Image) -> Image.Image:
    """An upright copy of at most 192 pixels, RGB on white; an OSError if the file ends before the picture does."""
    image.draft("RGB", (2 * _SMALL, 2 * _SMALL))  # a large JPEG is decoded at a fraction of its size
    image.load()
    image.thumbnail((_SMALL, _SMALL), Image.Resampling.BOX, reducing_gap=2.0)
    return as_rgb(ImageOps.exif_transpose(image))


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture in RGB, on white where it is transparent; made in bands, so that it takes little memory."""
    if image.mode == "RGB":
        return image
    if image.width * image.height <= _BAND:
        return _band(image)
    whole, rows = Image.new("RGB", image.size), max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        whole.paste(_band(image.crop((0, top, image.width, min(top + rows, image.height)))), (0, top))
    return whole


def _band(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a channel
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
