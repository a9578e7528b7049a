"""safetensors files that are written piece by piece and read through a memory map.

The safetensors library wants whole arrays in memory; its format is a length, a JSON header and the bytes.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TYPES = {"F32": "<f4", "I32": "<i4", "I64": "<i8", "U8": "|u1"}
"""NumPy's name of each safetensors type."""


def assemble(target: Path, parts: Mapping[str, tuple[Path, str, tuple[int, ...]]]) -> None:
    """Join raw little-endian files into one safetensors file and remove them.

    Args:
        target: The file to write.
        parts: By tensor name: raw file, safetensors type (of :data:`TYPES`), shape.
    """
    header: dict[str, Any] = {}
    offset = 0
    for name, (file, kind, shape) in parts.items():
        size = file.stat().st_size
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with target.open("wb") as out:
        out.write(len(encoded).to_bytes(8, "little") + encoded)
        for file, _, _ in parts.values():
            with file.open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
            file.unlink()


def mapped(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a safetensors file as read-only memory maps.

    Raises:
        ValueError: If the file is not what its header says.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path} is no safetensors file")
        header = json.loads(file.read(length))
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        dtype, shape = np.dtype(TYPES[entry["dtype"]]), tuple(entry["shape"])
        if start == end:
            tensors[name] = np.empty(shape, dtype)
        else:
            # A plain array over the map: indexing a memmap itself costs ten times as much.
            tensors[name] = np.asarray(np.memmap(path, dtype, "r", offset=8 + length + start, shape=shape))
    return tensors
