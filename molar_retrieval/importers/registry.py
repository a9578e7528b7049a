"""The formats by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.importers.amazon_2014 import Amazon2014
from molar_retrieval.importers.amazon_2023 import Amazon2023
from molar_retrieval.importers.hm import LEVELS, Hm
from molar_retrieval.importers.movielens import open_movielens
from molar_retrieval.importers.pixelrec import PixelRec
from molar_retrieval.importers.published import Published


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        open: From the folder, and the level where there are levels, to the opened data set.
        levels: What an item may be, the default first; empty where there is no choice.
    """

    open: Callable[[Path, str], Published]
    levels: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = {
    "movielens": Format(lambda folder, _: open_movielens(folder)),
    "amazon-2014": Format(lambda folder, _: Amazon2014(folder)),
    "amazon-2023": Format(lambda folder, _: Amazon2023(folder)),
    "pixelrec": Format(lambda folder, _: PixelRec(folder)),
    "hm": Format(Hm, LEVELS),
}


def open_published(name: str, folder: Path, level: str | None = None) -> Published:
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
    chosen = FORMATS[name]
    if level is not None and level not in chosen.levels:
        hint = f"choose {' or '.join(chosen.levels)}" if chosen.levels else "leave --level out"
        raise SettingsError(f"{name} has no level {level!r}", hint)
    return chosen.open(folder, level or next(iter(chosen.levels), ""))
