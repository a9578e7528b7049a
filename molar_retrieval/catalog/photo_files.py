"""Photos that somebody sends: kept in the catalogue's folder of photos, under the ids of their items."""

import os
from pathlib import Path

from molar_retrieval.catalog.decoders import looked_at
from molar_retrieval.catalog.images import EXTENSIONS, open_bytes
from molar_retrieval.catalog.spec import CatalogueSettings
from molar_retrieval.errors import RequestError, shown
from molar_retrieval.workspace.files import disk_error, sync_folder

_EXTENSION = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_LONGEST = 200  # bytes of an id that names a file


def keep_photo(folder: Path, item_id: str, content: bytes) -> str:
    """Write the photo of an item, in place of the one that it had under its id; the path below the catalogue's folder.

    Whoever reads meanwhile finds the former photo or this one. The next `molar update` sees it.

    Raises:
        RequestError: If the id cannot name a file, or the photo is no JPEG, PNG or WebP.
        ImageError: If it cannot be opened within the bounds of photos.
        DiskError: If it cannot be written.
    """
    if item_id.startswith(".") or set(item_id) & set("/\\\0:") or len(os.fsencode(item_id)) > _LONGEST:
        raise RequestError(
            f"the id {shown(item_id)} cannot name a file",
            "put the photo into the catalogue's folder, and name its path in the items file",
        )
    open_bytes(content)
    found = looked_at(content)[0]["format"]
    if (extension := _EXTENSION.get(found)) is None:
        raise RequestError(f"photos as {found or 'this'} are not kept", "send a JPEG, a PNG or a WebP")
    images = CatalogueSettings.read(folder).items.images
    place = folder / images
    if not place.resolve().is_relative_to(folder.resolve()):
        raise RequestError(f"{images} is a link out of the catalogue's folder", "make it a folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
        temporary = place / f".{item_id}{extension}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place / f"{item_id}{extension}")
        for other in EXTENSIONS:
            if other != extension:
                (place / f"{item_id}{other}").unlink(missing_ok=True)
        sync_folder(place)
    except OSError as error:
        raise disk_error(error) or error from error
    return f"{images}/{item_id}{extension}"
