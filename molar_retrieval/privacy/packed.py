"""Archives and packed files: what is in them is unpacked into a file without a name, and looked through."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from molar_retrieval.privacy.found import FileFindings, UndecodableError

Look = Callable[[Path, str, FileFindings], None]


def look_at_zip(path: Path, found: FileFindings, look: Look) -> None:
    """Look through each file of a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    with archive.open(member) as stream:
                        _look_inside(stream, member.filename, found, look)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise UndecodableError(f"it cannot be unpacked: {error}") from error


def look_at_packed(path: Path, how: str, found: FileFindings, look: Look) -> None:
    """Look through what one file was packed from, by ``gzip`` or ``zstd``."""
    try:
        with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, how) as stream:
            _look_inside(stream, path.stem, found, look)
    except (pa.ArrowException, OSError) as error:
        raise UndecodableError(f"it cannot be unpacked: {error}") from error


def _look_inside(stream: IO[bytes] | Any, name: str, found: FileFindings, look: Look) -> None:
    with tempfile.TemporaryDirectory(prefix="molar-scan-") as folder:  # 0700
        inside = Path(folder) / f"inside{Path(name).suffix}"
        with inside.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        look(inside, name, found)
