"""The interaction log as arrays: one row per interaction, grouped by user, in time order."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from molar_retrieval.columns import TIMESTAMP, USER_ID, WEIGHT
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ids import IdMap

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LOG_FILE = "interactions.parquet"
USERS_FILE = "users.parquet"
USER, ITEM, STRENGTH = "user", "item", "strength"
_BLOCK, _PIECE = 1 << 20, 1 << 16  # interactions that are looked at or sorted, and read, at a time


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """Who took what, when; the interactions of user ``u`` are the rows ``offsets[u]`` to ``offsets[u + 1]``.

    Attributes:
        users: User keys; a user's row is the order of first appearance in the file.
        items: The catalogue's ids.
        offsets: Borders between users, shape (n_users + 1,).
        item: Item rows, shape (n,).
        timestamp: Seconds since 1970 in UTC, 0 where the log has no times, shape (n,).
        weight: How much each interaction counts, shape (n,), or None where all count the same.
        strength: How strong the kind of each is, from 0 to 1: as much it counts where things are counted, and only what
            has 1 (a purchase, not a view) is what lists are validated on; shape (n,), or None where all have 1.
        asked_at: When each user is asked about, in seconds, shape (n_users,); None: after the log's last interaction.
        asked_by: Of a log of questions, the rows of those who ask in the log that it was taken from, shape (n_users,).
    """

    users: IdMap
    items: IdMap
    offsets: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    timestamp: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32] | None = None
    strength: npt.NDArray[np.float32] | None = None
    asked_at: npt.NDArray[np.int64] | None = None
    asked_by: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.item)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.items)

    @property
    def user(self) -> npt.NDArray[np.int32]:
        """The user row of each interaction, shape (n,)."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.offsets))

    def history(self, user_row: int) -> npt.NDArray[np.int32]:
        """Item rows of one user, oldest first; a view."""
        return self.item[self.offsets[user_row] : self.offsets[user_row + 1]]

    def select(self, keep: npt.NDArray[np.bool_]) -> "InteractionLog":
        """The interactions of a mask, shape (n,); users and items keep their rows, a user may be left with nothing."""
        most = 2 * np.count_nonzero(keep) > len(keep)
        before = np.searchsorted(np.flatnonzero(~keep if most else keep), self.offsets)
        return self._at(keep, offsets=self.offsets - before if most else before)

    @property
    def strongest(self) -> "InteractionLog":
        """The log of its strongest kind alone, as of purchases without views."""
        return self if self.strength is None else replace(self.select(self.strength == 1), strength=None)

    def _at(self, rows: npt.NDArray[Any], **others: Any) -> "InteractionLog":
        weight = None if self.weight is None else self.weight[rows]
        strength = None if self.strength is None else self.strength[rows]
        own = {"item": self.item[rows], "timestamp": self.timestamp[rows], "weight": weight, "strength": strength}
        return replace(self, **own, **others)

    def of_users(self, rows: npt.NDArray[np.integer]) -> "InteractionLog":
        """The histories of the users at ``rows``, in that order, perhaps repeated; numbered anew, without their ids."""
        asked_at = None if self.asked_at is None else self.asked_at[rows]
        return self._ranges(self.offsets[rows], np.diff(self.offsets)[rows], asked_at)

    def before(self, rows: npt.NDArray[np.integer]) -> "InteractionLog":
        """What the users of the interactions at ``rows`` had before them: one history each, asked at its time."""
        start = self.offsets[self.user[rows]]
        return self._ranges(start, np.asarray(rows, np.int64) - start, self.timestamp[rows])

    def _ranges(
        self, start: npt.NDArray[np.int64], length: npt.NDArray[np.int64], asked_at: npt.NDArray[np.int64] | None
    ) -> "InteractionLog":
        offsets = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - start, length)
        users = IdMap.numbered(len(start))
        return self._at(places, users=users, offsets=offsets, asked_at=asked_at, asked_by=None)

    def without_last(self, user_rows: npt.NDArray[np.integer]) -> "InteractionLog":
        """The log without the last interaction of some users, each of whom must have one."""
        keep = np.ones(len(self), bool)
        keep[self.offsets[np.asarray(user_rows, np.int64) + 1] - 1] = False
        return self.select(keep)

    @classmethod
    def open(cls, version_folder: Path, items: IdMap) -> Self:
        """Open a version of the ``interactions`` artefact; a StaleArtefactError if it is not of these ``items``."""
        users = IdMap(pq.read_table(version_folder / USERS_FILE, use_threads=False)[USER_ID])
        with pq.ParquetFile(version_folder / LOG_FILE) as file:
            there = set(file.schema_arrow.names)
            item, timestamp = _column(file, ITEM), _column(file, TIMESTAMP)
            weight, strength = (_column(file, name) if name in there else None for name in (WEIGHT, STRENGTH))
            of_user = counts(_column(file, USER), len(users))
        if len(item) and int(item.max()) >= len(items):
            raise StaleArtefactError(f"{version_folder} was made for another catalogue", "run `molar embed CATALOG`")
        return cls(
            users=users,
            items=items,
            offsets=np.concatenate([[0], np.cumsum(of_user)]),
            item=item,
            timestamp=timestamp,
            weight=weight,
            strength=strength,
        )


def counts(rows: npt.NDArray[np.integer], length: int) -> npt.NDArray[np.int64]:
    """How often each of the numbers below ``length`` comes, shape (length,)."""
    found = np.zeros(length, np.int64)
    block = max(_BLOCK, length)
    for begin in range(0, len(rows), block):  # NumPy counts in 64 bits, and makes a copy of other numbers
        found += np.bincount(rows[begin : begin + block], minlength=length)
    return found


def _column(file: pq.ParquetFile, name: str) -> npt.NDArray[Any]:
    """A column of numbers, none of them missing, as one array: read in pieces."""
    values = np.empty(file.metadata.num_rows, file.schema_arrow.field(name).type.to_pandas_dtype())
    there = 0
    for group in range(file.num_row_groups):  # asked for all of them, Arrow reads ahead
        for batch in file.iter_batches(_PIECE, row_groups=[group], columns=[name], use_threads=False):
            values[there : there + len(batch)] = batch.column(0)
            there += len(batch)
    return values


def to_csr(log: InteractionLog) -> "csr_matrix":
    """Users × items, float32: the sum of the weights of all interactions of a pair, one each where there are none."""
    from scipy.sparse import csr_matrix

    values = np.ones(len(log), np.float32) if log.weight is None else log.weight.astype(np.float32)
    matrix = csr_matrix((values, log.item, log.offsets), shape=(log.n_users, log.n_items), copy=True)
    matrix.sum_duplicates()
    return matrix
