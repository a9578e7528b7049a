"""Folders: where they are, how large, how much room is left; and the settings."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from molar.doctor.health import Entry, Fault, broken, entry
from molar_retrieval.encoders.checkpoint import cache_root, offline_by_environment
from molar_retrieval.errors import SECRETS, MolarError
from molar_retrieval.reports.wording import size
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.settings import FILE_NAME, MolarSettings

PATIENCE = 2.0  # Seconds after which a folder's size is given as far as it is known
LITTLE_ROOM = 1 << 30


def places(root: Path, deep: bool, file: Path | None = None) -> Iterator[Entry]:
    """Workspace, which may not exist, caches and settings; ``deep`` measures folders to their end."""
    if root.exists():
        yield _folder("workspace", root, deep)
    else:
        yield entry("workspace", f"none at {root}", data={"folder": str(root), "exists": False})
    yield _folder("models of the hub", cache_root(), deep)
    if offline_by_environment():
        yield entry("hub", "not asked: the environment says offline")
    yield _folder("temporary files", Path(tempfile.gettempdir()), deep=False, measured=False)
    yield _settings(root, file)
    names = sorted(name for name in os.environ if name.startswith("MOLAR_") or name in SECRETS)
    yield entry("environment", f"sets {', '.join(names)}" if names else "sets nothing", data=names)


def _folder(name: str, folder: Path, deep: bool, *, measured: bool = True) -> Entry:
    if not folder.exists():
        return entry(name, f"{folder} (not there)", data={"folder": str(folder), "exists": False})
    total, whole = folder_size(folder, None if deep else PATIENCE) if measured else (0, True)
    free = shutil.disk_usage(folder).free
    taken = f"{'' if whole else 'more than '}{size(total)}, " if measured else ""
    room = max(LITTLE_ROOM, total // 2 if name == "workspace" else 0)
    little = f"only {size(free)} are free where {folder} is; a new version needs about {size(room)}"
    return entry(
        name,
        f"{folder} ({taken}{size(free)} free)",
        not os.access(folder, os.W_OK)
        and Fault(f"nothing can be written into {folder}", "allow it, or work elsewhere with --workspace"),
        free < room and Fault(little, "make room, or work elsewhere with --workspace"),
        data={"folder": str(folder), "bytes": total if measured else None, "measured": whole, "free_bytes": free},
    )


def _settings(root: Path, named: Path | None) -> Entry:
    path = named or file_beside(root, FILE_NAME)
    try:
        settings = MolarSettings.load(root.parent, name=path.name, file=named)
    except MolarError as error:
        # The message may quote a value, also one of the environment; where it is wrong must do.
        wrong = error.message.partition(" = ")[0]
        return entry("settings", "wrong", broken(f"the settings are wrong: {wrong}", error.hint))
    file = str(path) if path.exists() else None
    given = sorted(settings.model_dump(exclude_defaults=True))
    return entry("settings", file or "defaults", data={"file": file, "given": given})


def folder_size(folder: Path, patience: float | None) -> tuple[int, bool]:
    """Bytes on disk of all files in a folder, links not followed, and whether all were seen.

    ``patience`` are the seconds that it may take; None: as long as it takes.
    """
    until = None if patience is None else time.monotonic() + patience
    total, waiting = 0, [folder]
    while waiting:
        if until is not None and time.monotonic() > until:
            return total, False
        try:
            with os.scandir(waiting.pop()) as entries:
                for file in entries:
                    if file.is_dir(follow_symlinks=False):
                        waiting.append(Path(file.path))
                    elif not file.is_symlink():
                        found = file.stat(follow_symlinks=False)
                        total += 512 * found.st_blocks if hasattr(found, "st_blocks") else found.st_size
        except OSError:
            continue
    return total, True
