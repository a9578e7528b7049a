"""A workspace to try something in: it reads what the real one has, and what it writes is gone in the end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from molar_retrieval.binding import EVENTS, NAME, check
from molar_retrieval.manifest import MAKERS, OTHERS
from molar_retrieval.workspace import Workspace


@contextmanager
def scratch_workspace(root: Path, catalogue: Path) -> Iterator[Workspace]:
    """A workspace like the one at ``root``, which may not exist, and is left as it is; raises as ``for_catalogue``."""
    check(root, catalogue.resolve())
    with TemporaryDirectory(prefix="molar-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        for file in (f for f in root.glob("*") if f.is_file() and f.name != NAME):
            shutil.copyfile(file, place / file.name)
        for kind in (*MAKERS, *OTHERS):
            for inner in (root / kind).glob("*"):
                _mirror(inner, place / kind / inner.name)
        if (root / EVENTS).is_dir():
            (place / EVENTS).symlink_to((root / EVENTS).resolve())  # to which nothing is appended here
        yield Workspace.for_catalogue(place, catalogue)


def _mirror(found: Path, place: Path) -> None:
    """A folder of links to a version's files, so that replacing one replaces a link; a pointer is copied."""
    if found.is_dir():
        place.mkdir(parents=True)
        for file in found.iterdir():
            (place / file.name).symlink_to(file.resolve())
    elif found.name == "current":
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, place)
