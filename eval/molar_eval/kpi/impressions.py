"""Impressions with propensities, read from a file or from the event log.

A file (Parquet, CSV or JSON lines) with one row per shown item:

=============  ========================================================================================
column         meaning
=============  ========================================================================================
``context_id``  the request: the moment at which the logging policy chose
``user_id``     whose request it was; the intervals treat users as independent
``item_id``     the item shown; or, with one row per slate, an id that stands for the whole slate
``propensity``  probability with which the logging policy showed this item in this context, in (0, 1]
``reward``      what came of it: 0 or 1 for a click, or an amount of money; any finite number
``position``    optional: the slot, a whole number. The propensity is then that of the item in this slot
``timestamp``   optional: seconds, milliseconds, … since 1970, or ISO 8601
=============  ========================================================================================

A propensity is recorded when the item is shown; one that is estimated afterwards, or left at a guess, biases every
estimate made from the log.

A request is what has one ``request_id``, a context of :class:`molar_eval.kpi.impressions.Impressions`. The reward is 1
of an item that was looked at, put into a cart or bought with this ``request_id``, else 0. Propensities are those of
being in the list, at whatever place; only the first ten have one. A request that lacks one is left out as a whole:
whether it does was decided when it was answered, so that what is left is no worse chosen.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.kpi.by_day import by_item
from molar_retrieval.columns import ITEM_ID, POSITION, TIMESTAMP, USER_ID
from molar_retrieval.data.event_log_reader import SCHEMA, EventLogSnapshot, opened
from molar_retrieval.data.interaction_reader import suppressed_rows
from molar_retrieval.data.rows import Rejects
from molar_retrieval.data.schema import FORMATS, open_source
from molar_retrieval.data.times import TimeParser
from molar_retrieval.data.values import is_string
from molar_retrieval.errors import DataError, nearest
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import person_keys
from molar_retrieval.privacy.suppression import NOBODY, SuppressionList
from molar_retrieval.ranking.objectives import TOP
from molar_retrieval.workspace.artefacts import Workspace

CONTEXT_ID, PROPENSITY, REWARD = "context_id", "propensity", "reward"
IDS = (CONTEXT_ID, USER_ID, ITEM_ID)
REQUIRED = (*IDS, PROPENSITY, REWARD)
OPTIONAL = (POSITION, TIMESTAMP)
Rows = npt.NDArray[np.int64]
ROW = "row of the file"
_BATCH = 262_144


@dataclass(frozen=True, eq=False)
class Impressions:
    """A log of n impressions; row by row in arrays of shape (n,), its ids in order of first appearance.

    ``user`` is the same in all rows of a context, ``item`` a row of ``items``. ``propensity`` is the probability that
    the logging policy showed the item, in (0, 1]; ``reward`` is finite; ``timestamp`` seconds since 1970 in UTC.
    ``number`` is that of the row in the file, or of the event in the log.
    """

    contexts: IdMap
    users: IdMap
    items: IdMap
    context: npt.NDArray[np.int32]
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    propensity: npt.NDArray[np.float64]
    reward: npt.NDArray[np.float64]
    timestamp: npt.NDArray[np.int64] | None = None
    number: Rows | None = None

    def __len__(self) -> int:
        return len(self.context)

    @cached_property
    def first(self) -> Rows:
        """The first row of each context, shape (C,): ``user[first]`` and ``timestamp[first]`` are the contexts'."""
        return np.unique(self.context, return_index=True)[1]

    def select(self, contexts: npt.NDArray[np.bool_]) -> "Impressions":
        """Those of some contexts, shape (C,), with their users and all items."""
        rows = np.flatnonzero(contexts[self.context])
        (context, those), (user, they) = (
            np.unique(codes[rows], return_inverse=True) for codes in (self.context, self.user)
        )
        return Impressions(
            IdMap(self.contexts.array.take(context)), IdMap(self.users.array.take(user)), self.items,
            those.astype(np.int32), they.astype(np.int32), self.item[rows], self.propensity[rows], self.reward[rows],
            *(None if one is None else one[rows] for one in (self.timestamp, self.number)),
        )  # fmt: skip

    def item_rows(self, catalogue: IdMap) -> npt.NDArray[np.int32]:
        """The catalogue's row of each shown item, -1 where the catalogue does not have it, shape (n,)."""
        rows: npt.NDArray[np.int32] = catalogue.rows(self.items.array)[self.item]
        return rows


def read_impressions(path: Path, suppressed: SuppressionList = NOBODY) -> Impressions:
    """Read and check a log of impressions, ``.parquet``, ``.csv`` or ``.jsonl``; nothing is repaired.

    What was shown to ``suppressed`` people is as if it were not there, but for the numbers of the other rows.

    Raises:
        DataError: Naming file, row (1 is the first row of data), column and remedy, if a column is missing, a row
            cannot be read, an id is missing, a propensity lies outside (0, 1], a reward or another number is not
            finite, a context has two users, or a context repeats an item in the same slot.
    """
    if path.suffix not in FORMATS or not path.is_file():
        raise DataError(f"there is no file {path} in a known format", f"name a file that ends in {', '.join(FORMATS)}")
    source = open_source(path)
    _refuse_missing(path.name, source.names)
    columns = [name for name in (*REQUIRED, *OPTIONAL) if name in source.names]
    when = TIMESTAMP if TIMESTAMP in columns else None
    # A CSV file is read as written, so that a value which is no number can be named by its row.
    written = columns if path.suffix == ".csv" else IDS
    unreadable = Rejects(path)  # not entered, so it counts and writes nothing
    parser, blocks = TimeParser(), []
    for every in source.batches(columns, _BATCH, unreadable, written):
        _refuse_unreadable(unreadable)
        rows = every.where(~suppressed_rows(every.batch, USER_ID, when, parser, suppressed))
        checked = {n: _Column(path.name, n, rows.numbers, rows.batch[n]).checked(parser) for n in columns}
        blocks.append(checked | {ROW: rows.numbers})
    _refuse_unreadable(unreadable)
    if not blocks:
        raise DataError(f"{path.name} has no rows", "log what is shown first")
    return assembled(path.name, blocks)


@dataclass(frozen=True)
class _Column:
    """Some values of a column, and the rows of the file, from 1, that they stand in."""

    file: str
    name: str
    numbers: Rows
    values: pa.Array

    def checked(self, parser: TimeParser) -> Any:
        """Ids as Arrow large_string, seconds since 1970 in UTC, or finite numbers, by the column's name."""
        if self.name in IDS:
            ids = self.values.cast(pa.large_string())
            blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(ids), ""), True)
            self._refuse(np.asarray(blank), "the id is missing", "give every row an id, or leave the row out")
            return ids
        if self.name == TIMESTAMP:
            micros, valid = parser.parse(self.values)
            self._refuse(~valid, "{} is not a time", "write seconds since 1970 or ISO 8601, or leave the column out")
            return micros // 1_000_000
        numbers = self._finite()
        if self.name == PROPENSITY:
            hint = "write the probability with which this item was shown, above 0 and at most 1"
            wrong = ~((numbers > 0) & (numbers <= 1))
            self._refuse(wrong, "{} is no propensity", f"{hint} (a percentage: divide by 100)")
        return numbers

    def _finite(self) -> npt.NDArray[np.float64]:
        values = self.values.dictionary_decode() if pa.types.is_dictionary(self.values.type) else self.values
        values = pc.utf8_trim_whitespace(values) if is_string(values.type) else values
        hint = "write finite numbers with a decimal point, 0 where nothing came of it"
        self._refuse(np.asarray(pc.is_null(values)), "the number is missing", hint)
        try:
            numbers = np.asarray(values.cast(pa.float64(), safe=False), np.float64)
        except pa.ArrowInvalid:
            self._refuse(np.array([not _is_number(text) for text in values.to_pylist()]), "{} is not a number", hint)
            raise
        except pa.ArrowNotImplementedError as error:
            raise DataError(f"{self.file}: the column {self.name!r} holds {values.type}", hint) from error
        self._refuse(~np.isfinite(numbers), "{} is not finite", hint)
        return numbers

    def _refuse(self, wrong: npt.NDArray[np.bool_], what: str, hint: str) -> None:
        """Stop at the first row marked in ``wrong``, shape (n,); ``{}`` in ``what`` stands for its value."""
        if wrong.any():
            row = int(np.argmax(wrong))
            message = what.format(repr(self.values[row].as_py()))
            raise DataError(f"{self.file}, row {self.numbers[row]}, column {self.name!r}: {message}", hint)


def _is_number(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _refuse_missing(file: str, names: Collection[str]) -> None:
    """Refuse a file without its columns, naming those that are missing and those that look most like them."""
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        close = {name: nearest(name, set(names) - set(REQUIRED), n=1) for name in missing}
        alike = [f"rename {found[0]!r} to {name!r}" for name, found in close.items() if found]
        known = f"it has {', '.join(map(repr, sorted(names)))}; name the columns {', '.join(REQUIRED)}"
        columns = "column" if len(missing) == 1 else "columns"
        raise DataError(f"{file} has no {columns} {', '.join(map(repr, missing))}", ", ".join(alike) or known)


def _refuse_unreadable(rejects: Rejects) -> None:
    """Stop where a row could not be read: a log with holes would be estimated as if it had none."""
    if rejects.total:
        raise DataError(next(iter(rejects.first.values())), "correct the row, or leave it out knowingly")


def assembled(file: str, blocks: Sequence[Mapping[str, Any]]) -> Impressions:
    """Impressions of checked columns by name, in blocks; ``ROW`` numbers the rows for messages about ``file``."""
    maps, codes = {}, {}
    for name in IDS:
        encoded = pa.chunked_array([block[name] for block in blocks]).combine_chunks().dictionary_encode()
        maps[name], codes[name] = IdMap(encoded.dictionary), np.asarray(encoded.indices, np.int32)
    numbers = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0] if name not in IDS}
    impressions = Impressions(
        contexts=maps[CONTEXT_ID],
        users=maps[USER_ID],
        items=maps[ITEM_ID],
        context=codes[CONTEXT_ID],
        user=codes[USER_ID],
        item=codes[ITEM_ID],
        propensity=numbers[PROPENSITY],
        reward=numbers[REWARD],
        timestamp=numbers.get(TIMESTAMP),
        number=numbers[ROW],
    )
    _refuse_two_users(file, impressions, numbers[ROW])
    _refuse_repeats(file, impressions, numbers.get(POSITION), numbers[ROW])
    return impressions


def _refuse_two_users(file: str, log: Impressions, row: Rows) -> None:
    other = log.user != log.user[log.first][log.context]
    if other.any():
        at = int(np.argmax(other))
        before = row[log.first[log.context[at]]]
        raise DataError(
            f"{file}, row {row[at]}, column {USER_ID!r}: the context {log.contexts.id(log.context[at])!r} belongs to "
            f"another user in row {before}",
            "give every request a context_id of its own",
        )


def _refuse_repeats(file: str, log: Impressions, position: npt.NDArray[np.float64] | None, row: Rows) -> None:
    keys: list[npt.NDArray[Any]] = [log.item, log.context]
    if position is not None:
        keys.append(position)
    order = np.lexsort(keys)  # stable: equal rows stay in the order of the file
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    if same.any():
        at = int(np.argmax(same))
        raise DataError(
            f"{file}, row {row[order[at + 1]]}: repeats the item {log.items.id(log.item[order[at]])!r} of the context "
            f"{log.contexts.id(log.context[order[at]])!r} from row {row[order[at]]}",
            "log each shown item once; if it filled two slots, add the column 'position'",
        )


TAKEN = ("click", "view", "add_to_cart", "purchase")
_NAME = "the event log"
_SHOWN = ("user_id", "session_id", "item_id", "timestamp", "request_id", "position", "propensity", "seq")
_PAIR = ("request_id", "item_id")


def logged_impressions(workspace: Workspace) -> tuple[Impressions, int]:
    """The impressions of the workspace's event log, and how many requests are left out for want of propensities.

    Raises:
        DataError: If there is no log or no impression to be used, if a request has two users, or a propensity is none.
    """
    hint = "append what `impression()` of an answer gives as it is shown, see docs/kpi.md"
    with opened(workspace) as state:
        if state is None:
            raise DataError("there is no event log", hint)
        shown = _together(state, _SHOWN, ("impression",))
        taken = _together(state, _PAIR, TAKEN)
    keep = pc.and_(pc.is_valid(shown["request_id"]), pc.is_valid(shown["item_id"]))
    shown = shown.filter(pc.and_(keep, pc.fill_null(pc.less_equal(shown["position"], TOP), True))).sort_by("seq")
    unsaid = pc.unique(shown["request_id"].filter(pc.is_null(shown["propensity"])))
    shown = shown.filter(pc.invert(pc.is_in(shown["request_id"], unsaid)))
    shown = shown.take(_firsts(shown))
    if not len(shown):
        raise DataError("no impression of the event log has a request_id and a propensity", hint)
    wrong = pc.invert(pc.and_(pc.greater(shown["propensity"], 0), pc.less_equal(shown["propensity"], 1)))
    if pc.any(wrong).as_py():
        value = shown["propensity"].filter(wrong)[0].as_py()
        raise DataError(f"{_NAME}: {value} is no propensity", "log a probability above 0 and at most 1")
    pairs = set(zip(taken["request_id"].to_pylist(), taken["item_id"].to_pylist(), strict=True))
    own = zip(shown["request_id"].to_pylist(), shown["item_id"].to_pylist(), strict=True)
    block = {
        CONTEXT_ID: _text(shown["request_id"]),
        USER_ID: _text(person_keys(shown["user_id"], shown["session_id"])),
        ITEM_ID: _text(shown["item_id"]),
        PROPENSITY: shown["propensity"].to_numpy(),
        REWARD: np.fromiter((pair in pairs for pair in own), np.float64, len(shown)),
        TIMESTAMP: shown["timestamp"].cast(pa.int64()).to_numpy() // 1_000_000,
        ROW: shown["seq"].to_numpy(),
    }
    return assembled(_NAME, [block]), len(unsaid)


def _together(state: EventLogSnapshot, columns: Collection[str], kinds: Collection[str]) -> pa.Table:
    nothing = pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
    return by_item(state, pa.concat_tables([nothing, *state.tables(tuple(columns), kinds)]))


def _text(column: pa.ChunkedArray) -> pa.Array:
    """Ids as the reader of a file gives them."""
    return column.combine_chunks().cast(pa.large_string())


def _firsts(shown: pa.Table) -> npt.NDArray[np.int64]:
    """The first line of each item of a request: what was told twice was shown once."""
    numbered = shown.select(list(_PAIR)).append_column("place", pa.array(np.arange(len(shown))))
    places = numbered.group_by(list(_PAIR)).aggregate([("place", "min")])["place_min"]
    return np.sort(places.to_numpy())
