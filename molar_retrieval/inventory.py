"""The inventory of a version's files: cheap to check for truncation, thorough with digests.

``files.json`` names every file with its size and digest, and under its own name how many they are and a digest of the
rest. The embedded engine rewrites its JSON files with the keys in another order; of these the content counts. Its
files of values are holes for the most part; of these what is not zero counts, by which a digest takes no time.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from molar_retrieval import fingerprint
from molar_retrieval.durable import write_atomically

NAME = "files.json"
_REORDERED = "json:"  # begins the digest of a JSON file whose keys may come in any order
_SPARSE = "sparse:"  # begins the digest of a file of which zeros were not hashed


def take(folder: Path, without: Collection[str] = ()) -> None:
    """Write ``files.json`` of a complete version, but for files that will not stay."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != NAME and name not in without:
            found[name] = _described(path, name)
    _write(folder, found)


def amend(
    folder: Path, anew: Collection[str], instead: Mapping[str, bytes], staged: Mapping[str, Path] | None = None
) -> None:
    """Write a version's inventory anew after the files ``anew`` were replaced; of the others it says what it said.

    ``instead`` is what some files are about to hold, ``staged`` which files are about to take the place of others.
    """
    known: dict[str, Any] = json.loads((folder / NAME).read_text("utf-8"))
    known.pop(NAME, None)
    known |= {name: _described(folder / name, name) for name in anew}
    known |= {name: _described(path, name) for name, path in (staged or {}).items()}
    known |= {name: [len(content), fingerprint.of_content(content)] for name, content in instead.items()}
    _write(folder, known)


def _write(folder: Path, found: dict[str, Any]) -> None:
    write_atomically(folder / NAME, _written(found, [len(found), fingerprint.of_json(found)]))


def check(folder: Path, *, digests: bool = False) -> list[str]:
    """What is wrong with a version's files, as sentences; with ``digests`` they are read too."""
    try:
        text = (folder / NAME).read_text("utf-8")
        known: dict[str, Any] = json.loads(text)
        own = known.pop(NAME)
        names = [(name, (int(facts[0]), str(facts[1]))) for name, facts in known.items()]
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        return [f"{NAME} is unreadable: {error}"]
    if own != [len(known), fingerprint.of_json(known)] or _written(known, own) != text:
        return [f"{NAME} was changed"]
    return [problem for name, facts in names if (problem := _problem(folder, name, facts, digests)) is not None]


def _problem(folder: Path, name: str, facts: tuple[int, str], digests: bool) -> str | None:
    path = folder / name
    try:
        size = path.stat().st_size
        if size != facts[0]:
            return f"{name} has {size} bytes instead of {facts[0]}"
        return f"{name} was changed" if digests and _digest(path, _manner(facts[1])) != facts[1] else None
    except FileNotFoundError:
        return f"{name} is missing"
    except (OSError, ValueError) as error:
        return f"{name} is unreadable: {error}"


def _described(path: Path, name: str) -> list[Any]:
    of_engine = {".json": _REORDERED, ".dat": _SPARSE} if "/" in name else {}
    return [path.stat().st_size, _digest(path, of_engine.get(path.suffix, ""))]


def _manner(digest: str) -> str:
    """How a digest was taken."""
    return next((manner for manner in (_REORDERED, _SPARSE) if digest.startswith(manner)), "")


def _digest(path: Path, manner: str) -> str:
    """The digest of a file; of a JSON file of the engine, what it says and of which bytes it is made."""
    if manner == _SPARSE:
        return _SPARSE + fingerprint.of_sparse_file(path)
    if manner != _REORDERED:
        return fingerprint.of_file(path)
    raw = path.read_bytes()
    try:
        said = fingerprint.of_json(json.loads(raw))
    except ValueError:
        said = fingerprint.of_content(raw)
    return _REORDERED + fingerprint.of_content(said.encode() + bytes(sorted(raw)))


def _written(known: Mapping[str, Any], own: Any) -> str:
    return json.dumps({**known, NAME: own}, indent=0, ensure_ascii=False)
