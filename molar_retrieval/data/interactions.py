"""Interactions as arrays, by user and time: in order, without exact repetitions, and some held out for validation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_retrieval import rng
from molar_retrieval.columns import TIMESTAMP, USER_ID, WEIGHT
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace.tensors import Array

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LOG_FILE = "interactions.parquet"
USERS_FILE = "users.parquet"
USER, ITEM, STRENGTH = "user", "item", "strength"
_COLUMNS = (ITEM, TIMESTAMP, WEIGHT, STRENGTH)
_BLOCK, _PIECE = 1 << 20, 1 << 16  # interactions that are looked at or sorted, and read, at a time


@dataclass(frozen=True, eq=False)
class Interactions:
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

    def select(self, keep: npt.NDArray[np.bool_]) -> "Interactions":
        """The interactions of a mask, shape (n,); users and items keep their rows, a user may be left with nothing."""
        most = 2 * np.count_nonzero(keep) > len(keep)
        before = np.searchsorted(np.flatnonzero(~keep if most else keep), self.offsets)
        return self._at(keep, offsets=self.offsets - before if most else before)

    @property
    def strongest(self) -> "Interactions":
        """The log of its strongest kind alone, as of purchases without views."""
        return self if self.strength is None else replace(self.select(self.strength == 1), strength=None)

    def _at(self, rows: npt.NDArray[Any], **others: Any) -> "Interactions":
        own = {name: values[rows] for name in _COLUMNS if (values := getattr(self, name)) is not None}
        return replace(self, **own, **others)

    def of_users(self, rows: npt.NDArray[np.integer]) -> "Interactions":
        """The histories of the users at ``rows``, in that order, perhaps repeated; numbered anew, without their ids."""
        asked_at = None if self.asked_at is None else self.asked_at[rows]
        return self._ranges(self.offsets[rows], np.diff(self.offsets)[rows], asked_at)

    def before(self, rows: npt.NDArray[np.integer]) -> "Interactions":
        """What the users of the interactions at ``rows`` had before them: one history each, asked at its time."""
        start = self.offsets[self.user[rows]]
        return self._ranges(start, np.asarray(rows, np.int64) - start, self.timestamp[rows])

    def _ranges(
        self, start: npt.NDArray[np.int64], length: npt.NDArray[np.int64], asked_at: npt.NDArray[np.int64] | None
    ) -> "Interactions":
        offsets = np.concatenate([[0], np.cumsum(length, dtype=np.int64)])
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - start, length)
        users = IdMap.numbered(len(start))
        return self._at(places, users=users, offsets=offsets, asked_at=asked_at, asked_by=None)

    def without_last(self, user_rows: npt.NDArray[np.integer]) -> "Interactions":
        """The log without the last interaction of some users, each of whom must have one."""
        keep = np.ones(len(self), bool)
        keep[self.offsets[np.asarray(user_rows, np.int64) + 1] - 1] = False
        return self.select(keep)

    @classmethod
    def open(cls, version_folder: Path, items: IdMap) -> Self:
        """Open a version of the ``interactions`` artefact; a StaleArtefactError if it is not of these ``items``."""
        users = IdMap(pq.read_table(version_folder / USERS_FILE, use_threads=False)[USER_ID])
        return cls.read(version_folder / LOG_FILE, users, items)

    @classmethod
    def read(cls, path: Path, users: IdMap, items: IdMap) -> Self:
        """Read the rows of a file that :meth:`write` made."""
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            of_user = counts(_column(file, USER), len(users))
            own = {name: _column(file, name) for name in _COLUMNS if name in there}
        if len(own[ITEM]) and int(own[ITEM].max()) >= len(items):
            raise StaleArtefactError(f"{path.parent} was made for another catalogue", "run `molar embed CATALOG`")
        return cls(users=users, items=items, offsets=np.concatenate([[0], np.cumsum(of_user)]), **own)

    def write(self, path: Path, more: Mapping[str, pa.Array] | None = None) -> None:
        """Write a row for each interaction, with some columns more."""
        columns = {USER: self.user, **to_tensors(self), **(more or {})}
        del columns["offsets"]
        pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=_BLOCK)


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


def to_csr(log: Interactions) -> "csr_matrix":
    """Users × items, float32: the sum of the weights of all interactions of a pair, one each where there are none."""
    from scipy.sparse import csr_matrix

    values = np.ones(len(log), np.float32) if log.weight is None else log.weight.astype(np.float32)
    matrix = csr_matrix((values, log.item, log.offsets), shape=(log.n_users, log.n_items), copy=True)
    matrix.sum_duplicates()
    return matrix


def to_tensors(log: Interactions) -> dict[str, Array]:
    """Its arrays by name, but for when users are asked about."""
    return {name: values for name in ("offsets", *_COLUMNS) if (values := getattr(log, name)) is not None}


def of_tensors(tensors: Mapping[str, Array], n_items: int) -> Interactions:
    """The log of such arrays, users without ids and items by their rows; other arrays are not looked at."""
    own = {name: tensors[name] for name in ("offsets", *_COLUMNS) if name in tensors}
    own.setdefault("timestamp", np.broadcast_to(np.int64(0), own["item"].shape))
    return Interactions(users=IdMap([]), items=IdMap.numbered(n_items), **own)


Slots = npt.NDArray[np.integer]


@dataclass(frozen=True)
class RawInteractions:
    """Interactions as arrays of one length, in the order of the file; None for what the log does not have.

    Users and items are row numbers, times are microseconds since 1970, positions (NaN where missing) are the order
    within one time, and an ``event`` is a place in ``EVENT_TYPES``, below -1 a kind that only the file knows. How
    strong a kind is, says :class:`Interactions`. The ``number`` is that of the event log, 0 for what only the file
    has; ``order`` and ``request`` are numbers of ids, or -1.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    micros: npt.NDArray[np.int64] | None = None
    position: npt.NDArray[np.float64] | None = None
    weight: npt.NDArray[np.float32] | None = None
    event: npt.NDArray[np.int32] | None = None
    strength: npt.NDArray[np.float32] | None = None
    number: npt.NDArray[np.int64] | None = None
    order: npt.NDArray[np.int32] | None = None
    request: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.user)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that there are, by name."""
        return {f.name: values for f in fields(self) if (values := getattr(self, f.name)) is not None}

    def take(self, rows: Any) -> "RawInteractions":
        """Some rows, by index or mask, in the order given."""
        return replace(self, **{name: values[rows] for name, values in self.columns.items()})

    def without(self, rows: npt.NDArray[np.int64]) -> "RawInteractions":
        """All rows but these; itself where there are none."""
        keep = np.ones(len(self), bool)
        keep[rows] = False
        return self.take(keep) if len(rows) else self

    def without_idle(self, users: pa.Array) -> tuple["RawInteractions", pa.Array]:
        """The same with users numbered anew, without those that have no row, and the ids that are left."""
        left = counts(self.user, len(users)) > 0
        rows = (np.cumsum(left) - 1).astype(np.int32)
        return replace(self, user=rows[self.user]), users.filter(pa.array(left))

    def grouped(self, users: IdMap, items: IdMap) -> Interactions:
        """An ordered log, ready for use: times in seconds."""
        return Interactions(
            users=users,
            items=items,
            offsets=np.concatenate([[0], np.cumsum(counts(self.user, len(users)))]),
            item=self.item,
            timestamp=np.zeros(len(self), np.int64) if self.micros is None else self.micros // 1_000_000,
            weight=self.weight,
            strength=self.strength,
        )


def ordered(raw: RawInteractions) -> RawInteractions:
    """The log itself, its arrays by user, then time, then position, then order in the file.

    A missing position comes after the given ones.
    """
    if not len(raw):
        return raw
    of_user = counts(raw.user, int(raw.user.max()) + 1)
    places = counting_sort(raw.user, len(of_user))
    keys = [key for key in (raw.position, raw.micros) if key is not None]
    for begin, end in whole_users(np.append(0, np.cumsum(of_user))) if keys else ():
        rows = places[begin:end]
        places[begin:end] = rows[np.lexsort([key[rows] for key in (*keys, raw.user)])]
    for column in raw.columns.values():
        moved = np.empty_like(column)
        for begin in range(0, len(column), _BLOCK):  # NumPy makes 64 bits of each place
            moved[begin : begin + _BLOCK] = column[places[begin : begin + _BLOCK]]
        column[:] = moved
        del moved  # before there is the next one
    return raw


def without_duplicates(log: RawInteractions) -> RawInteractions:
    """An ordered log without exact repetitions: same user, item, time and event; the first one stays.

    A log without times has no repetitions in this sense: only its order tells its interactions apart.
    """
    return log.without(repetitions(log))


def repetitions(log: RawInteractions) -> npt.NDArray[np.int64]:
    """Which rows of an ordered log repeat an earlier one exactly: same user, item, time and event."""
    found: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    if log.micros is not None and len(log):
        borders = np.concatenate([[0], np.flatnonzero(log.user[1:] != log.user[:-1]) + 1, [len(log)]])
        found += [begin + _repetitions(log.take(slice(begin, end))) for begin, end in whole_users(borders)]
    return np.concatenate(found)


def _repetitions(log: RawInteractions) -> npt.NDArray[np.int64]:
    assert log.micros is not None
    border = np.append(True, (log.user[1:] != log.user[:-1]) | (log.micros[1:] != log.micros[:-1]))
    moment = np.cumsum(border)
    tied = np.flatnonzero(~(border & np.append(border[1:], True)))
    keys = [values[tied] for values in (moment, log.item, log.event) if values is not None]
    repeated: npt.NDArray[np.int64] = tied[first_rows(*keys) != np.arange(len(tied))]
    return repeated


def first_rows(*keys: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The place of the first row that has the same keys, for each row."""
    order = np.lexsort(keys)  # stable
    new = np.ones(len(order), bool)
    new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    found = np.empty(len(order), np.int64)
    found[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return found


def counting_sort(user: npt.NDArray[np.int32], users: int) -> Slots:
    """The order by user that keeps equal ones in their order; a sparse matrix is made row by row in just this way."""
    from scipy.sparse import coo_array

    n = len(user)
    cells = (np.ones(n, np.int8), (user, np.arange(n, dtype=np.int32 if n < 1 << 31 else np.int64)))
    return np.asarray(coo_array(cells, shape=(users, n)).tocsr().indices)


def whole_users(offsets: Slots, size: int = _BLOCK) -> Iterator[tuple[int, int]]:
    """Ranges of an ordered log with all of their users' interactions, about ``size`` of them."""
    first, users = 0, len(offsets) - 1
    while first < users:
        end = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        end = min(max(end, first + 1), users)
        yield int(offsets[first]), int(offsets[end])
        first = end


LEAST = 3  # fewest interactions of a user whose last one is held out: two remain, one to read and one to predict
FEWEST_REPEATS = 100
"""Users who took something again at last, below which none of them is a case."""


@dataclass(frozen=True, eq=False)
class Holdout:
    """A split of a log into training interactions and validation cases.

    Attributes:
        training: The log without the cases; users and items keep their rows.
        users: User row of each case, ascending, shape (C,); a user may have several.
        targets: Item row of each case, something that the user took after the training interactions, shape (C,).
        times: When each case is asked, seconds since 1970 in UTC, 0 where the log has no times, shape (C,).
        known: What the user of each case had done before it, one history per case; None: the training interactions.
            Where training ends at one moment for everybody, there is more of whoever was there between it and the case.
    """

    training: Interactions
    users: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64]
    known: Interactions | None = None

    def __len__(self) -> int:
        return len(self.users)

    def select(self, cases: npt.NDArray[np.integer]) -> "Holdout":
        """The same training interactions with the cases of these numbers."""
        known = None if self.known is None else self.known.of_users(cases)
        return replace(self, users=self.users[cases], targets=self.targets[cases], times=self.times[cases], known=known)

    @property
    def histories(self) -> Interactions:
        """What the user of each case had done before it, one history per case."""
        return self.training.of_users(self.users) if self.known is None else self.known

    @cached_property
    def again(self) -> npt.NDArray[np.bool_]:
        """Whether the user had the item of each case before, shape (C,)."""
        had, case = self.histories, np.arange(len(self))
        return np.isin(case * had.n_items + self.targets, had.user.astype(np.int64) * had.n_items + had.item)


def holdout_last(log: Interactions, max_users: int, seed: int) -> Holdout:
    """Hold out the last interaction of up to ``max_users`` users, drawn at random where more qualify.

    A user qualifies with three interactions or more whose last item is new to them: a repeated one could not be
    found by a ranking that hides what was seen. Where 100 users or more took something again at last, as large a share
    of these is held out as well, for lists that show what was seen.

    In a log of several kinds the last interaction of the strongest kind counts, and a case is asked when its user
    first did anything with the item, as by viewing it: neither that nor what followed is seen by training. Of these
    only what is new to somebody is a case.
    """
    if log.strength is not None:
        return _holdout_strongest(log, log.strength, max_users, seed)
    lengths = np.diff(log.offsets)
    rows = np.flatnonzero(lengths >= LEAST)
    last = np.full(log.n_users, -1, np.int32)
    last[rows] = log.item[log.offsets[rows + 1] - 1]
    new = _times_taken(log, last)[rows] == 1
    rows, again = rows[new], rows[~new]
    if len(rows) and len(again) >= FEWEST_REPEATS:
        share = min(1.0, max_users / len(rows))
        again = _drawn(again, int(share * len(again)), seed)
        rows = np.sort(np.concatenate([_drawn(rows, max_users, seed), again]))
    else:
        rows = _drawn(rows, max_users, seed)
    times = log.timestamp[log.offsets[rows + 1] - 1]
    return Holdout(log.without_last(rows), rows.astype(np.int32), last[rows], times)


def _times_taken(log: Interactions, item: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """How often each user took an item of theirs, shape (n_users,)."""
    user = log.user
    return np.bincount(user[log.item == item[user]], minlength=log.n_users)


def _holdout_strongest(log: Interactions, strength: npt.NDArray[np.float32], max_users: int, seed: int) -> Holdout:
    user, place = log.user, np.arange(len(log))
    strongest = strength == 1
    target = np.full(log.n_users, -1)
    np.maximum.at(target, user[strongest], place[strongest])
    item = np.where(target < 0, -1, log.item[target])
    own = log.item == item[user]
    taken = np.bincount(user[own & strongest], minlength=log.n_users)
    first = np.full(log.n_users, len(log))
    np.minimum.at(first, user[own], place[own])
    rows = np.flatnonzero((taken == 1) & (first - log.offsets[:-1] >= LEAST - 1))
    rows = _drawn(rows, max_users, seed)
    end = log.offsets[1:].copy()
    end[rows] = first[rows]
    return Holdout(
        log.select(place < end[user]), rows.astype(np.int32), item[rows].astype(np.int32), log.timestamp[first[rows]]
    )


def _drawn(rows: npt.NDArray[np.int64], most: int, seed: int) -> npt.NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return np.sort(rng.generator(seed, "holdout").choice(rows, most, replace=False))
