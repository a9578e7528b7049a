"""The alignment that a generation carries: it reads sessions as it was made, whatever the workspace has by now."""

import json
import shutil
from pathlib import Path

from molar_retrieval.workspace.artefacts import PRIVATE, Manifest

_FOLDER = "encoder"
_FILES = ("manifest.json", "model.safetensors")  # what :func:`molar_retrieval.models.store.open_model` reads


def carry(alignment: Path, generation: Path) -> None:
    """Put an alignment into a generation's folder, which takes no room where the file system has links."""
    own = generation / _FOLDER
    own.mkdir()
    for name in _FILES:
        try:
            (own / name).hardlink_to(alignment / name)
        except OSError:  # another disk, or one without links
            shutil.copyfile(alignment / name, own / name)


def carried(generation: Path) -> Path | None:
    """The alignment in a generation's folder; None where it was published before generations carried one."""
    own = generation / _FOLDER
    return own if own.is_dir() else None


def has_noise(generation: Path) -> bool:
    """Whether the alignment in a generation's folder was made of statistics with noise."""
    own = carried(generation)
    return own is not None and PRIVATE in Manifest.read(own).facts


def preset_of(generation: Path) -> str | None:
    """The preset with which the alignment in a generation's folder was trained; None where that is not told."""
    try:
        told = json.loads((generation / _FOLDER / "manifest.json").read_text("utf-8"))["settings"]["align"]["preset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return told if isinstance(told, str) else None
