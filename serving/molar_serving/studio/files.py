"""Files that pages of the studio load: style sheets, scripts, photos of items."""

from collections.abc import Callable
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

from molar_retrieval.data.catalogue import Catalogue, photos_of
from molar_retrieval.data.images import ImageError, PhotoFolder
from molar_retrieval.limits import PHOTO
from molar_retrieval.workspace.artefacts import Workspace
from molar_serving.problems import ProblemError
from molar_serving.studio.visit import Page, Screen, Visit

_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
_PHOTOS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png"), (b"RIFF", "image/webp"))
_HOUR = {"Cache-Control": "private, max-age=3600"}


async def file(visit: Visit) -> Page:
    """A style sheet or a script."""
    found = _files().get(visit.path["name"])
    if found is None:
        raise ProblemError(404, "there is no such file")
    content, kind = found
    return Page(content=content, media_type=kind, headers={"Cache-Control": "private, no-cache"})


async def photo(visit: Visit) -> Page:
    """The photo of an item, as its file is; a picture that says so where there is none."""
    content = await visit.do(lambda: photo_of(visit.service.workspace, visit.path["item_id"]))
    kind = next((kind for start, kind in _PHOTOS if content.startswith(start)), None)
    if kind is None:
        content, kind = _files()["no-photo.svg"]
    return Page(content=content, media_type=kind, headers=_HOUR)


async def nowhere(visit: Visit) -> Page:
    """An address of the studio at which there is nothing."""
    if not visit.path["rest"]:
        return Page.to("/studio")
    raise ProblemError(404, f"there is no page {visit.call.request.scope['path'][:200]}", "the navigation leads to all")


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    folder = resources.files("molar_serving.studio") / "static"
    return {one.name: (one.read_bytes(), _KINDS[Path(one.name).suffix]) for one in folder.iterdir()}


def photo_of(workspace: Workspace, item_id: str) -> bytes:
    """The file of an item's photo; nothing where there is none in the catalogue's folder."""
    version = workspace["catalogue"].current
    if version is None:
        return b""
    folder, path_of = _paths(workspace, version)
    if (path := path_of(item_id)) is None:
        return b""
    try:
        with Path(PhotoFolder(folder).path(path.relative_to(folder).as_posix())).open("rb") as photo:
            content = photo.read(PHOTO + 1)
    except (ImageError, OSError):
        return b""
    return content if len(content) <= PHOTO else b""


@lru_cache(maxsize=2)
def _paths(workspace: Workspace, version: Path) -> tuple[Path, Callable[[str], Path | None]]:
    """The catalogue's folder and where photos lie in it, by the version that says so."""
    return Catalogue.open(version).folder, photos_of(workspace)


SCREENS = (
    Screen("GET", "/studio/static/{name}", None, file),
    Screen("GET", "/studio/photos/{item_id:path}", "viewer", photo),
    Screen("GET", "/studio/{rest:path}", "viewer", nowhere),
)
