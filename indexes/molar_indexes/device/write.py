"""Writes a shop for a device into a folder that any server of static files can give out.

Files of data are named by what is in them, and ``device.json`` names them. It is replaced at last, so that a page sees
the former shop or the new one, whenever it loads and wherever the writing was cut off.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from molar_indexes.device.contents import DeviceContents
from molar_retrieval import columns
from molar_retrieval.errors import DataError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import lock_beside, sync_folder, sync_tree, write_atomically
from molar_retrieval.workspace.tensors import TensorsWriter

MANIFEST = "device.json"
FORMAT = 1
"""Of the folder; raised with every change of what a page has to read."""
_PARTIAL = ".partial"


@dataclass(frozen=True)
class DeviceExport:
    """What was written.

    Attributes:
        folder: Where.
        generation: Whose items it has.
        digest: Of all that answers; another one means other answers.
        items: How many items may come.
        bytes: Of all files.
        left_out: What the server heeds and the device does not, in sentences.
    """

    folder: Path
    generation: str
    digest: str
    items: int
    bytes: int
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The export as JSON-able values."""
        return {**vars(self), "folder": str(self.folder), "left_out": list(self.left_out)}


def check_place(out: Path) -> None:
    """Refuse a folder that has something else in it; DataError."""
    if not out.parent.is_dir() or (out.exists() and not out.is_dir()):
        raise DataError(f"{out} cannot be written", "name a new folder in one that is there")
    others = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if others and _format_of(out) is None:
        raise DataError(f"{out} has something else in it", "name a new folder, or one that was exported before")


def write(
    out: Path,
    contents: DeviceContents,
    encoder: bytes | None,
    photos: Mapping[int, bytes],
    generation: str,
    now: datetime,
) -> DeviceExport:
    """Write everything; what an earlier export left and this one does not need goes.

    Args:
        out: The folder.
        contents: What is in it.
        encoder: The towers as an ONNX model; None: there are none, and the folder has no runtime either.
        photos: Small copies by row, ascending.
        generation: Whose items they are.
        now: When they were gathered.

    Raises:
        DataError: If the folder holds something else, cannot be written, or another process writes it.
    """
    made = {"generation": generation, "made": now.astimezone(UTC).isoformat(timespec="seconds")}
    shown = int(np.count_nonzero(contents.tensors["shown"]))
    with lock_beside(out):
        check_place(out)
        out.mkdir(exist_ok=True)
        if _format_of(out) is None:  # so that the folder is known for what it is, wherever this is cut off
            write_atomically(out / MANIFEST, json.dumps({"format": FORMAT, "files": {}}))
        partial = out / _PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        told = {"format": FORMAT, "files": _data(partial, contents, encoder, photos)}
        told |= {"facts": contents.facts, "left_out": list(contents.left_out)}
        digest = fingerprint.of_json(told)
        for name, content in _page(runtime=encoder is not None):
            (partial / name).write_bytes(content)
        _moved(partial, out, {**made, "digest": digest, "items": shown, **told})
    size = sum(path.stat().st_size for path in out.iterdir())
    return DeviceExport(out, generation, digest, shown, size, tuple(contents.left_out))


def _moved(partial: Path, out: Path, manifest: Mapping[str, Any]) -> None:
    """Bring what is finished to its place, then say so, then remove all that is not of it."""
    sync_tree(partial)
    names = {path.name for path in partial.iterdir()}
    for name in names:
        (partial / name).replace(out / name)
    sync_folder(out)
    write_atomically(out / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
    for path in [one for one in out.iterdir() if one.name not in {*names, MANIFEST}]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _data(folder: Path, contents: DeviceContents, encoder: bytes | None, photos: Mapping[int, bytes]) -> dict[str, str]:
    """The files of data, by what they are: their names, which begin so and have some digits of what is in them."""
    with TensorsWriter(folder / "index") as tensors:
        for name, values in sorted(contents.tensors.items(), key=lambda one: (-one[1].dtype.itemsize, one[0])):
            tensors.append(name, values)  # wide numbers first, so that each of them lies where it can be read
    titles, payload = contents.payload[columns.TITLE], dict(contents.payload)
    del payload[columns.TITLE]
    items = {"ids": list(contents.ids), "titles": list(titles), "payload": payload}
    (folder / "items").write_text(json.dumps(items, ensure_ascii=False, separators=(",", ":")), "utf-8")
    suffixes = {"index": "safetensors", "items": "json"}
    if encoder is not None:
        (folder / "encoder").write_bytes(encoder)
        suffixes["encoder"] = "onnx"
    if photos:
        _write_photos(folder / "photos", photos, len(contents.ids))
        suffixes["photos"] = "safetensors"
    named = {}
    for name, suffix in suffixes.items():
        with (folder / name).open("rb") as file:
            digits = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        named[name] = f"{name}-{digits}.{suffix}"
        (folder / name).rename(folder / named[name])
    return named


def _write_photos(path: Path, photos: Mapping[int, bytes], count: int) -> None:
    """All in one file: what photos somebody looks at is nobody's business."""
    ends = np.cumsum([len(photos.get(row, b"")) for row in range(count)])
    with TensorsWriter(path) as tensors:
        tensors.append("ends", ends.astype(np.int32))
        for photo in photos.values():
            tensors.append("bytes", np.frombuffer(photo, np.uint8))


def _page(*, runtime: bool) -> Iterator[tuple[str, bytes]]:
    """The files of the page as they are in the package, and ONNX Runtime where there is something to run."""
    for folder in ("static", *(["runtime"] if runtime else [])):
        for file in (resources.files(__package__) / folder).iterdir():
            yield file.name, file.read_bytes()


def _format_of(out: Path) -> int | None:
    """The format of what was exported into a folder; None: nothing was."""
    try:
        told: Mapping[str, Any] = json.loads((out / MANIFEST).read_text("utf-8"))
        return int(told["format"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
