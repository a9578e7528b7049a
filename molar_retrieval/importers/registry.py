"""The formats by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.importers.amazon import AMAZON_2014, AMAZON_2023
from molar_retrieval.importers.hm import HM_LEVELS, open_hm
from molar_retrieval.importers.movielens import open_movielens
from molar_retrieval.importers.pixelrec import open_pixelrec
from molar_retrieval.importers.published import PublishedData

FORMATS: Mapping[str, Callable[[Path, str], PublishedData]] = {
    "movielens": open_movielens,
    "amazon-2014": AMAZON_2014.open,
    "amazon-2023": AMAZON_2023.open,
    "pixelrec": open_pixelrec,
    "hm": open_hm,
}
"""By name: from the folder, and what an item is, to the opened data set."""
LEVELS = {"hm": HM_LEVELS}
"""What an item may be, the default first, where there is a choice."""


def open_published(name: str, folder: Path, level: str | None = None) -> PublishedData:
    """Open a published data set.

    Args:
        name: The format.
        folder: The folder with the files as published.
        level: What an item is; None for the format's default.

    Raises:
        SettingsError: If there is no such format, or it has no such level.
        DataError: If a file is missing, or is not what the format says.
    """
    if name not in FORMATS:
        close = nearest(name, FORMATS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingsError(f"there is no format {name!r}", f"{hint}known are {', '.join(FORMATS)}")
    levels = LEVELS.get(name, ())
    if level is not None and level not in levels:
        hint = f"choose {' or '.join(levels)}" if levels else "leave --level out"
        raise SettingsError(f"{name} has no level {level!r}", hint)
    return FORMATS[name](folder, level or next(iter(levels), ""))
