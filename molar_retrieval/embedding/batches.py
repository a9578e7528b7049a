"""Which items are encoded together, and what has to be read of them.

A run that was killed makes the same batches again, so its vectors equal those of an undisturbed run bit by bit.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.embedding.catalogue import ContentScan
from molar_retrieval.embedding.keys import Rows

_BUCKET = 32  # characters; texts of one bucket cost about the same


def batches_of(scan: ContentScan, pending: npt.NDArray[np.bool_], batch_size: int) -> list[Rows]:
    """Cut the pending rows into batches of similar cost, each in catalogue order.

    Rows go by length of text (long ones first, so that too little memory shows at once), then by photo.
    """
    rows = np.flatnonzero(pending)
    order = np.lexsort((rows, ~scan.has_image[rows], -(scan.lengths[rows] // _BUCKET)))
    return [np.sort(rows[order[first : first + batch_size]]) for first in range(0, len(rows), batch_size)]


class Texts:
    """What the encoder has to read, a line of a file for each row; used in a ``with`` block."""

    def __init__(self, file: IO[bytes], starts: Mapping[int, int] | npt.NDArray[np.int64]) -> None:
        self._file, self._starts = file, starts

    def fetch(self, rows: Iterable[int]) -> Iterator[tuple[str | None, str | None]]:
        """(text, photo path) of each row."""
        for row in rows:
            self._file.seek(int(self._starts[row]))
            text, image = json.loads(self._file.readline().decode("utf-8", "surrogatepass"))
            yield text, image

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class SharedTexts(Texts):
    """Some rows of a file that another process keeps."""

    def __init__(self, path: Path, starts: Mapping[int, int]) -> None:
        super().__init__(path.open("rb"), starts)


class PendingTexts(Texts):
    """A file to which rows are added, and which is gone after the block; it has a name where it is to be ``shared``."""

    def __init__(self, folder: Path, count: int, *, shared: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._rows = np.zeros(count, np.int64)
        super().__init__((NamedTemporaryFile if shared else TemporaryFile)(dir=folder), self._rows)

    def share(self) -> Path:
        """The file, with all that was added up to now, as other machines see it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return Path(self._file.name)

    def starts(self, rows: Rows) -> list[int]:
        """Where the lines of some rows begin."""
        found: list[int] = self._rows[rows].tolist()
        return found

    def add(self, row: int, text: str | None, image: str | None) -> None:
        """The text and photo path of a row."""
        self._rows[row] = self._file.tell()
        line = json.dumps([text, image], ensure_ascii=False)
        self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")
