"""An inventory of an artefact's files: cheap to check for truncation, thorough with digests."""

import json
from pathlib import Path
from typing import Any

from molar_retrieval import fingerprint

NAME = "files.json"


def take(folder: Path) -> None:
    """Write ``files.json``: size and digest of every file in the folder.

    The embedded engine rewrites its JSON files whenever it opens them, so of these only the names are kept.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.parent != folder:
            fixed = path.suffix != ".json"
            found[path.relative_to(folder).as_posix()] = _describe(path) if fixed else None
        elif path.is_file() and path.name != NAME:
            found[path.name] = _describe(path)
    (folder / NAME).write_text(json.dumps(found, indent=0, ensure_ascii=False), "utf-8")


def check(folder: Path, *, digests: bool = False) -> list[str]:
    """What is wrong with the files, as sentences; empty where nothing is.

    Args:
        folder: Where :func:`take` was called.
        digests: Read the files too.
    """
    try:
        known: dict[str, tuple[int, str] | None] = json.loads((folder / NAME).read_text("utf-8"))
    except (OSError, ValueError) as error:
        return [f"{NAME} is unreadable: {error}"]
    problems = []
    for name, facts in known.items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            problems.append(f"{name} is missing")
            continue
        if facts is None:
            continue
        if size != facts[0]:
            problems.append(f"{name} has {size} bytes instead of {facts[0]}")
        elif digests and fingerprint.of_file(folder / name) != facts[1]:
            problems.append(f"{name} was changed")
    return problems


def _describe(path: Path) -> tuple[int, str]:
    return path.stat().st_size, fingerprint.of_file(path)
