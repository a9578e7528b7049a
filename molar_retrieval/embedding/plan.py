"""Which items are encoded together: fixed before the first one is encoded, and kept with the unfinished work.

A run that was killed goes on with the same batches, so its vectors equal those of an undisturbed run bit by bit.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from molar_retrieval.embedding.rowfile import Rows
from molar_retrieval.embedding.source import Scan
from molar_retrieval.encoders.base import Block
from molar_retrieval.workspace import write_atomically

HEAD = "plan.json"
_ARRAYS = "plan.safetensors"
_TEXTS = "texts.bin"
_BUCKET = 32  # characters; texts of one bucket cost about the same


@dataclass(frozen=True)
class Head:
    """What a folder of unfinished work is about.

    Attributes:
        identity: Of the catalogue, its photos and the encoder (:class:`~molar_retrieval.embedding.source.Scan`).
        encoder: The encoder's fingerprint.
        batch_size: Most items per batch.
        count: Number of items.
        dim: Length of the vectors.
        blocks: Of the vectors.
    """

    identity: str
    encoder: str
    batch_size: int
    count: int
    dim: int
    blocks: tuple[Block, ...]

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The head of the unfinished work in ``folder``, or None where it did not get that far."""
        try:
            raw = json.loads((folder / HEAD).read_text("utf-8"))
            return cls(**{**raw, "blocks": tuple(Block(**block) for block in raw["blocks"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Make the work in ``folder`` one that can go on; everything else must be there already."""
        write_atomically(folder / HEAD, json.dumps(asdict(self)))


@dataclass(frozen=True)
class Plan:
    """The batches; some 20 bytes of memory per item.

    Attributes:
        batch: Number of each row's batch, -1 where there is nothing to encode.
    """

    batch: npt.NDArray[np.int32]

    @classmethod
    def make(cls, look: Scan, pending: npt.NDArray[np.bool_], batch_size: int) -> Self:
        """Cut the pending rows into batches of similar cost.

        Rows go by length of text (long ones first, so that too little memory shows at once), then with and without
        photo, then in catalogue order.
        """
        rows = np.flatnonzero(pending)
        order = np.lexsort((rows, ~look.has_image[rows], -(look.lengths[rows] // _BUCKET)))
        batch = np.full(len(pending), -1, np.int32)
        batch[rows[order]] = np.arange(len(rows)) // batch_size
        return cls(batch)

    @cached_property
    def _order(self) -> tuple[Rows, Rows]:
        order = np.argsort(self.batch, kind="stable")
        return order, np.searchsorted(self.batch[order], np.arange(int(self.batch.max(initial=-1)) + 2))

    def rows(self, number: int) -> Rows:
        """The rows of one batch, in catalogue order."""
        order, starts = self._order
        return order[starts[number] : starts[number + 1]]

    def unfinished(self, done: npt.NDArray[np.bool_]) -> list[int]:
        """Numbers of the batches of which a row is not done."""
        missing = self.batch[~done]
        return [int(number) for number in np.unique(missing[missing >= 0])]

    def write(self, folder: Path, texts: "TextWriter") -> None:
        """Keep the plan with the unfinished work."""
        texts.close()
        save_file({"batch": self.batch, "offsets": texts.offsets}, folder / _ARRAYS)

    @classmethod
    def read(cls, folder: Path) -> tuple[Self, "Texts"]:
        """The plan of the unfinished work in ``folder``, and the texts it needs.

        Raises:
            OSError: If they are missing.
            ValueError: If they are damaged.
        """
        try:
            arrays = load_file(folder / _ARRAYS)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        return cls(arrays["batch"]), Texts(folder / _TEXTS, arrays["offsets"])


class TextWriter:
    """Copies what has to be read for encoding into one file, so that any row can be fetched from it.

    Args:
        folder: Of the unfinished work.
        count: Number of items in the catalogue.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.offsets = np.zeros(count + 1, np.int64)
        self._file = (folder / _TEXTS).open("wb")
        self._row = 0

    def add(self, text: str | None, image: str | None, *, pending: bool) -> None:
        """The next row of the catalogue."""
        if pending:
            self._file.write(json.dumps([text, image], ensure_ascii=False).encode("utf-8", "surrogatepass"))
        self._row += 1
        self.offsets[self._row] = self._file.tell()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class Texts:
    """Fetches the text and photo path of any pending row. Thread-safe.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is not as long as the offsets say.
    """

    def __init__(self, path: Path, offsets: npt.NDArray[np.int64]) -> None:
        if path.stat().st_size != offsets[-1]:
            raise ValueError(f"{path} is cut short")
        self._file = os.open(path, os.O_RDONLY)
        self._offsets = offsets

    def fetch(self, rows: Sequence[int] | Rows) -> Iterator[tuple[str | None, str | None]]:
        """(text, photo path) of each row."""
        for row in rows:
            start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
            text, image = json.loads(os.pread(self._file, stop - start, start).decode("utf-8", "surrogatepass"))
            yield text, image

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)
