"""Names for the exact content of a model's folder: all bytes of all files that can change what the model puts out."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import write_atomically

_OTHER_RUNTIMES = frozenset({"onnx", "openvino", "coreml", "flax", "tf"})
_NOT_READ = frozenset({".md", ".png", ".jpg", ".jpeg", ".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".gguf", ".lock"})
_OWN = "digest of this file"
_TORCH_PICKLES = frozenset({".bin", ".pt", ".pth"})


def of_folder(folder: Path, cache: Path | None = None) -> str:
    """The digest of a model's folder; the same wherever the folder lies.

    The cache, a JSON file, remembers the digest of each file under its path, size and time of change, so that gigabytes
    are read once.
    """
    known = _read(cache)
    fresh = dict(known)
    parts = []
    for path in sorted(relevant_files(folder)):
        stat = path.stat()
        key, stamp = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        entry = known.get(key)
        digest = entry[2] if entry and entry[:2] == stamp else fingerprint.of_file(path)
        fresh[key] = [*stamp, digest]
        parts.append([path.relative_to(folder).as_posix(), digest])
    if cache is not None and fresh != known:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps({**fresh, _OWN: fingerprint.of_json(fresh)}, indent=0))
    return fingerprint.of_json(parts)


def relevant_files(folder: Path) -> Iterator[Path]:
    """The files under ``folder`` that can change what the model puts out."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _OTHER_RUNTIMES and not name.startswith(".")]
        safetensors = any(name.endswith(".safetensors") for name in names)
        for name in names:
            suffix = Path(name).suffix.lower()
            skipped = suffix in _NOT_READ or name.startswith(".") or (safetensors and suffix in _TORCH_PICKLES)
            if not skipped:
                yield Path(root) / name


def _read(cache: Path | None) -> dict[str, Any]:
    # A damaged memory is no harm: everything is read again. One without a digest of its own may be damaged.
    if cache is None or not cache.exists():
        return {}
    try:
        known = json.loads(cache.read_text("utf-8"))
    except ValueError:
        return {}
    own = known.pop(_OWN, None) if isinstance(known, dict) else None
    return known if own is not None and own == fingerprint.of_json(known) else {}
