"""Arrays: safetensors and NumPy files."""

import json
from pathlib import Path
from typing import Any

from molar_retrieval.privacy.blocks import blocks, look_at_bytes
from molar_retrieval.privacy.found import FileFindings, UndecodableError
from molar_retrieval.privacy.needles import Match, Needles
from molar_retrieval.privacy.texts import look_at_document

TRIALS, SPLITS = "trials", "splits"
"""Folders of an evaluation: lists by test case, and whose the cases are."""
_HEAD = 100 << 20
_BYTES = ("U8", "I8")


def look_at_safetensors(path: Path, needles: Needles, found: FileFindings) -> None:
    """Look through a safetensors file: its head as JSON, its tensors as numbers."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(_HEAD, path.stat().st_size):
            raise UndecodableError("it is no whole safetensors file")
        try:
            head = json.loads(file.read(size))
        except ValueError as error:
            raise UndecodableError(f"its head is no JSON: {error}") from error
    look_at_document(head, "head", "", needles, found)
    _look_at_trial(path, head, needles, found)
    tensors = {name: one for name, one in head.items() if name != "__metadata__"}
    places = {name: (8 + size + one["data_offsets"][0], one) for name, one in tensors.items()}
    if any(one["dtype"] in _BYTES for one in tensors.values()):
        look_at_bytes(path, needles, found)
        return
    for start, before, data, _ in blocks(path, needles.overlap):
        for at, what, length in needles.windows.find(data):
            if at + length > before:
                found.add(Match(what), _place(places, start + at))


def _look_at_trial(path: Path, head: dict[str, Any], needles: Needles, found: FileFindings) -> None:
    """Lists that a model made in an evaluation lie by the number of a test case; its split says whose each is."""
    tests = needles.tested.get(path.parents[2]) if path.parent.parent.name == TRIALS else None
    if not tests:
        return
    try:
        names = list(json.loads((path.parent / "trial.json").read_bytes())["score_seconds"])
        test, cases = names[int(path.stem.removeprefix("test-"))], head["items"]["shape"][0]
    except (OSError, ValueError, KeyError, IndexError):
        found.doubt("it holds lists by the number of a test case, and nothing says of which test")
        return
    for one in tests:
        if (one.test, one.cases) == (test.replace(" ", "-"), cases):
            for number in one.theirs:
                found.add(Match("a list for a test case of theirs"), f"items, row {number:,}")


def _place(places: dict[str, tuple[int, dict[str, list[int]]]], at: int) -> str:
    """Which tensor a byte is of, and which of its rows."""
    for name, (begin, about) in places.items():
        first, last = about["data_offsets"]
        if begin <= at < begin + last - first and about["shape"]:
            return f"{name}, row {(at - begin) * about['shape'][0] // (last - first):,}"
    return f"byte {at:,}"


def look_at_npy(path: Path, needles: Needles, found: FileFindings) -> None:
    """Look through an array of NumPy: text in it as bytes, objects not at all."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if b"'descr': '|O'" in head:
        found.doubt("its values are pickled")
    look_at_bytes(path, needles, found, names=b"'descr': '<f" not in head and b"'descr': '<i" not in head)
