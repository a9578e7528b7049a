"""The columns of an impressions file, checked value by value; every error names file, row, column and remedy."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.rejects import Rejects
from molar_retrieval.catalog.values import is_string
from molar_retrieval.errors import DataError, nearest
from molar_retrieval.interactions.times import TimeParser

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """Some values of a column.

    Attributes:
        file: Name of the file.
        name: Name of the column.
        numbers: The rows in the file, from 1, shape (n,).
        values: Shape (n,).
    """

    file: str
    name: str
    numbers: npt.NDArray[np.int64]
    values: pa.Array

    def refuse(self, wrong: npt.NDArray[np.bool_], what: str, hint: str) -> None:
        """Stop at the first row marked in ``wrong``, shape (n,); ``{}`` in ``what`` stands for its value.

        Raises:
            DataError: If a row is marked.
        """
        if wrong.any():
            row = int(np.argmax(wrong))
            message = what.format(repr(self.values[row].as_py()))
            raise DataError(f"{self.file}, row {self.numbers[row]}, column {self.name!r}: {message}", hint)

    def ids(self) -> pa.Array:
        """The values as ids (Arrow large_string); none may be missing or blank."""
        ids = self.values.cast(pa.large_string())
        blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(ids), ""), True)
        self.refuse(np.asarray(blank), "the id is missing", "give every row an id, or leave the row out")
        return ids

    def floats(self) -> Floats:
        """The values as finite numbers."""
        values = self._decoded()
        hint = "write finite numbers with a decimal point, 0 where nothing came of it"
        self.refuse(np.asarray(pc.is_null(values)), "the number is missing", hint)
        try:
            numbers = np.asarray(values.cast(pa.float64(), safe=False), np.float64)
        except pa.ArrowInvalid:
            self.refuse(np.array([not _is_number(text) for text in values.to_pylist()]), "{} is not a number", hint)
            raise
        except pa.ArrowNotImplementedError as error:
            raise DataError(f"{self.file}: the column {self.name!r} holds {values.type}", hint) from error
        self.refuse(~np.isfinite(numbers), "{} is not finite", hint)
        return numbers

    def propensities(self) -> Floats:
        """The values as probabilities in (0, 1]."""
        numbers = self.floats()
        self.refuse(
            ~((numbers > 0) & (numbers <= 1)),
            "{} is no propensity",
            "write the probability with which this item was shown, above 0 and at most 1 (a percentage: divide by 100)",
        )
        return numbers

    def seconds(self, parser: TimeParser) -> npt.NDArray[np.int64]:
        """The values as seconds since 1970 in UTC."""
        micros, valid = parser.parse(self.values)
        self.refuse(~valid, "{} is not a time", "write seconds since 1970 or ISO 8601, or leave the column out")
        return micros // 1_000_000

    def _decoded(self) -> pa.Array:
        values = self.values.dictionary_decode() if pa.types.is_dictionary(self.values.type) else self.values
        return pc.utf8_trim_whitespace(values) if is_string(values.type) else values


def refuse_missing(file: str, required: Collection[str], names: Collection[str]) -> None:
    """Check that a file has its columns.

    Raises:
        DataError: Naming the columns that are missing and those that look most like them.
    """
    missing = [name for name in required if name not in names]
    if not missing:
        return
    close = {name: nearest(name, set(names) - set(required), n=1) for name in missing}
    alike = [f"rename {found[0]!r} to {name!r}" for name, found in close.items() if found]
    columns = "column" if len(missing) == 1 else "columns"
    raise DataError(
        f"{file} has no {columns} {', '.join(map(repr, missing))}",
        ", ".join(alike) or f"it has {', '.join(map(repr, sorted(names)))}; name the columns {', '.join(required)}",
    )


def refuse_unreadable(rejects: Rejects) -> None:
    """Stop where a row could not be read: a log with holes would be estimated as if it had none.

    Raises:
        DataError: Naming the first row of the first kind.
    """
    if rejects.total:
        raise DataError(next(iter(rejects.first.values())), "correct the row, or leave it out knowingly")


def _is_number(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
