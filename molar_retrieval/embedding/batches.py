"""Which items are encoded together, and what has to be read of them.

A run that was killed makes the same batches again, so its vectors equal those of an undisturbed run bit by bit.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Self

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


class PendingTexts:
    """What the encoder has to read, in a file of its own, so that any row can be fetched; used in a ``with`` block."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 (this is one)
        self._starts = np.zeros(count, np.int64)

    def add(self, row: int, text: str | None, image: str | None) -> None:
        """The text and photo path of a row."""
        self._starts[row] = self._file.tell()
        line = json.dumps([text, image], ensure_ascii=False)
        self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")

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
