"""A split: what may be fitted, what chooses, what is asked at the end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_eval.cases import Cases, Mask, Rows
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import for_owner, write_atomically

Ties = Literal["file order", "item id"]
DAY = 86_400
FILE_ORDER: Ties = "file order"


@dataclass(frozen=True, eq=False)
class Split:
    """One way of holding interactions back.

    ``history`` has all interactions in the order that the split goes by, ``fitted`` says on which of them everything is
    fitted, shape (n,). Targets of ``validation``, which chooses settings, are not fitted on. ``tests`` are looked at
    once; the first is the one that counts. ``warning`` says why results may flatter.
    """

    name: str
    settings: Mapping[str, Any]
    history: Interactions
    fitted: Mask
    validation: Cases
    tests: Mapping[str, Cases]
    warning: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Changes with every interaction, case and target, whatever people are called."""
        log = self.history
        arrays: list[npt.NDArray[Any]] = [log.offsets, log.item, log.timestamp, self.fitted]
        for name, cases in [("validation", self.validation), *self.tests.items()]:
            arrays += [np.frombuffer(name.encode(), np.uint8), cases.user, cases.length, cases.offsets, cases.targets]
            arrays += [mask for mask in (cases.readable, cases.ranked) if mask is not None]
        content = fingerprint.of_bytes(np.ascontiguousarray(one).tobytes() for one in arrays)
        return fingerprint.of_json([self.name, dict(self.settings), content, log.n_users, log.items.digest])

    def save(self, folder: Path) -> Path:
        """Write the split as Parquet with ids, so that other tools can be asked the same; returns its folder.

        ``history.parquet`` holds all interactions in order (user_id, item_id, timestamp, training: whether models are
        fitted on it). ``validation.parquet`` and ``test-NAME.parquet`` have one row per case: user_id, input_length
        (how many of the user's first interactions are the input) and target_item_ids. ``split.json`` says the rest,
        with the items that inputs leave out, and by test those that are ranked where not all are. Nothing is written
        where it is there already, with people of these names.
        """
        name, people = self.fingerprint, self.history.users.digest
        folder = folder / f"{self.name.replace(' ', '-')}-{name[:16]}"
        written = folder / "split.json"
        if written.exists() and json.loads(written.read_text("utf-8")).get("people") == people:
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        log = self.history
        history = {
            "user_id": log.users.array.take(pa.array(log.user)),
            "item_id": log.items.array.take(pa.array(log.item)),
            "timestamp": pa.array(log.timestamp),
            "training": pa.array(self.fitted),
        }
        pq.write_table(pa.table(history), folder / "history.parquet", compression="zstd")
        for test, cases in [("validation", self.validation), *((f"test-{n}", c) for n, c in self.tests.items())]:
            pq.write_table(_table(cases), folder / f"{test.replace(' ', '-')}.parquet", compression="zstd")
        readable = self.validation.readable
        hidden = np.zeros(0, np.int64) if readable is None else np.flatnonzero(~readable)
        record = {
            "name": self.name,
            "fingerprint": name,
            "people": people,
            "settings": dict(self.settings),
            "warning": self.warning,
            "facts": dict(self.facts),
            "items_left_out_of_inputs": log.items.ids(hidden),
            "ranked_alone": {
                test: log.items.ids(np.flatnonzero(cases.ranked))
                for test, cases in self.tests.items()
                if cases.ranked is not None
            },
        }
        for_owner(folder)
        write_atomically(written, json.dumps(record, indent=1, ensure_ascii=False))
        return folder

    @property
    def training(self) -> Interactions:
        """What everything is fitted on."""
        return self.history.select(self.fitted)


def _table(cases: Cases) -> pa.Table:
    items = cases.history.items.array.take(pa.array(cases.targets)).cast(pa.string())
    return pa.table(
        {
            "user_id": cases.history.users.array.take(pa.array(cases.user)),
            "input_length": pa.array(cases.length),
            "target_item_ids": pa.ListArray.from_arrays(pa.array(cases.offsets.astype(np.int32)), items),
        }
    )


def with_ties(log: Interactions, ties: Ties) -> Interactions:
    """The log with a stated order among a user's interactions of the same second.

    ``file order`` keeps the order of the file, which the prepared log has. ``item id`` sorts such interactions by their
    items' ids as text; results that hinge on the order inside ties differ between the two.
    """
    if ties == FILE_ORDER:
        return log
    place = np.empty(log.n_items, np.int64)
    place[np.argsort(np.array(log.items.array.to_pylist(), object), kind="stable")] = np.arange(log.n_items)
    order = np.lexsort((place[log.item], log.timestamp, log.user))
    weight = None if log.weight is None else log.weight[order]
    return replace(log, item=log.item[order], timestamp=log.timestamp[order], weight=weight)


def is_first(log: Interactions) -> Mask:
    """Whether each interaction is the user's first with its item, shape (n,)."""
    pair = log.user.astype(np.int64) * log.n_items + log.item
    first = np.zeros(len(log), bool)
    first[np.unique(pair, return_index=True)[1]] = True
    return first


def place(log: Interactions) -> Rows:
    """How many interactions of the same user precede each one, shape (n,)."""
    return np.arange(len(log), dtype=np.int64) - np.repeat(log.offsets[:-1], np.diff(log.offsets))


def single_cases(log: Interactions, rows: npt.NDArray[np.integer], readable: Mask | None = None) -> Cases:
    """One case for each interaction in ``rows``: the target is its item, the input all that precedes it."""
    return Cases.single(log, log.user[rows], place(log)[rows], log.item[rows], readable)
