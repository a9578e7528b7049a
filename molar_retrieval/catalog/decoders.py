"""Asks the program that opens photos (`decoding`): a few processes, each used by one thread at a time.

A process that ends over a photo, by its bounds or by a fault in a library, costs that photo alone.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import PIL
from PIL import Image

from molar_retrieval.catalog import decoding
from molar_retrieval.errors import BackendError

_MODULE = Path(decoding.__file__).stem
_PROGRAM = f"import sys; sys.path += sys.argv[1:]; import {_MODULE}; {_MODULE}.main()"
_PLACES = (str(Path(decoding.__file__).parent), str(Path(PIL.__path__[0]).parent))
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
            if (said := self._answers.readline()) != decoding.READY:
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
        slow, costly = self._process.wait() in _TIMES, decoding.TOO_COSTLY.removeprefix("it ")
        raise _DiedError(decoding.TOO_SLOW if slow else f"opening it failed: it is damaged, or {costly}", slow)

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


def opened(photo: str | bytes, pixels: int) -> Image.Image:
    """A photo by its path or its file's content: RGB, upright, transparency on white, first frame, at most ``pixels``.

    A decoding.RefusedError says why it is not used.
    """
    request: dict[str, Any] = {"task": "open", "pixels": pixels}
    try:
        answer, raw = _asked(request, photo) if isinstance(photo, bytes) else _asked(request | {"path": photo})
    except _DiedError as died:
        raise decoding.RefusedError(died.reason) from died
    if "reason" in answer:
        raise decoding.RefusedError(answer["reason"])
    return _image(answer, raw)


def looked_at(data: bytes) -> tuple[dict[str, Any], Image.Image | None]:
    """What is to be measured of a file's content: facts about the photo, and a copy of at most 192 pixels, or None.

    The facts are ``state`` (a name of :class:`~molar_retrieval.quality.photos.PhotoState`), ``width``, ``height``,
    ``format`` and ``frames``.
    """
    try:
        answer, raw = _asked({"task": "look"}, data)
    except _DiedError:
        answer, raw = {"reason": decoding.TOO_COSTLY}, b""
    if "reason" in answer:
        return {"state": "TOO_LARGE", "width": 0, "height": 0, "format": "", "frames": 0}, None
    return answer, _image(answer, raw) if raw else None


def _image(answer: dict[str, Any], raw: bytes) -> Image.Image:
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
