"""Photos of published data: found by name, hard-linked where the file system allows it, copied elsewhere."""

import os
from pathlib import Path

from molar_retrieval.catalog.images import EXTENSIONS, FOLDER
from molar_retrieval.durable import link_or_copy
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.importers.published import PublishedData
from molar_retrieval.progress import Progress


def link_photos(published: PublishedData, items: IdMap, asked: Path | None, folder: Path, progress: Progress) -> int:
    """Bring the photos into a catalogue as ``images/<item_id>`` with their extension.

    Args:
        published: Knows where the photo of an item may lie.
        items: The items of the catalogue.
        asked: The folder with the photos, or None for the format's own, if it exists.
        folder: The catalogue.
        progress: Hears of each item.

    Returns:
        How many items have a photo.

    Raises:
        DataError: If the folder that was asked for does not exist, or has no photo of any item.
    """
    source = asked or published.photos
    if not source.is_dir():
        if asked is not None:
            raise DataError(f"there is no folder {asked}", "name the folder with the photos, or leave the option out")
        return 0
    images = folder / FOLDER
    images.mkdir()
    listed: dict[str, dict[str, str]] = {}
    n = 0
    progress.start("linking photos", len(items))
    for item_id in items.array.to_pylist():
        # Such an id would lead out of the folder.
        names = () if {"/", "\\"} & set(item_id) else published.photo_names(item_id)
        photo = next((path for name in names if (path := _find(source, name, listed)) is not None), None)
        # A hard link to a symbolic link would be the link, not the photo.
        if photo is not None and (real := photo.resolve()).is_file():
            link_or_copy(real, images / f"{item_id}{photo.suffix.lower()}")
            n += 1
        progress.advance()
    progress.finish()
    if asked is not None and not n:
        example = next((name for i in items.array[:1].to_pylist() for name in published.photo_names(i)), "")
        raise DataError(f"{asked} has no photo of any item", f"photos are looked for as {asked / example}.jpg")
    return n


def _find(root: Path, name: str, listed: dict[str, dict[str, str]]) -> Path | None:
    """A photo by its name without the extension; ``listed`` keeps the files of each subfolder."""
    folder, _, stem = name.rpartition("/")
    if folder not in listed:
        place = root / folder
        files = [os.path.splitext(file) for file in os.listdir(place)] if place.is_dir() else []  # noqa: PTH122, PTH208
        known = [(stem, end) for stem, end in files if end.lower() in EXTENSIONS]
        known.sort(key=lambda file: -EXTENSIONS.index(file[1].lower()))  # of two, the first extension wins
        listed[folder] = {stem: stem + end for stem, end in known}
    file = listed[folder].get(stem)
    return None if file is None else root / folder / file
