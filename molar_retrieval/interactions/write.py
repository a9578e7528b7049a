"""Writing a log as the workspace's ``interactions`` artefact."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.columns import TIMESTAMP, USER_ID, WEIGHT
from molar_retrieval.data import rows as side_file
from molar_retrieval.data.prepare import empty_partial, publish
from molar_retrieval.data.rows import Rejects
from molar_retrieval.events.event import KINDS
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.holdout import Holdout
from molar_retrieval.interactions.live import pack_events
from molar_retrieval.interactions.log import ITEM, LOG_FILE, STRENGTH, USER, USERS_FILE, InteractionLog, counts
from molar_retrieval.interactions.raw import RawLog
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.resources import library_versions

KIND = "interactions"
VALIDATION_FILE = "validation.parquet"
EVENT, NUMBER, ORDER = "event", "event_number", "order_id"
_HISTORY = "history_"  # before the names of columns with one list per validation case
RULES = 1  # number of the rules by which a log is kept; a change of them makes every prepared log stale
READING = 3  # number of the rules by which values are read; after a change every log is read anew, once
_ROW_GROUP = 1 << 20


def write_log(workspace: Workspace, log: InteractionLog | Holdout, inputs: Mapping[str, str]) -> Manifest:
    """Publish a log made elsewhere, say what training may see of another one.

    Of a :class:`Holdout` the training interactions become the log, and its cases are what `molar align` validates on,
    in place of each user's last interaction. ``inputs`` are fingerprints of what it was made from, by kind. A
    MissingArtefactError says that the workspace has no catalogue, to which the log's item rows refer.
    """
    _, catalogue = workspace["catalogue"].require()
    cases = log if isinstance(log, Holdout) else None
    log = log.training if isinstance(log, Holdout) else log
    with workspace.lock(KIND):
        partial = empty_partial(workspace[KIND])
        with Rejects(partial / side_file.FILE_NAME):
            write_tables(log, partial)
        facts = {**log_facts(log), "rejects": 0, "rejects_by_kind": {}, "item_ids": catalogue.facts["ids"]}
        name = log_fingerprint(catalogue, facts)
        if cases is not None:
            table, digest = _of_cases(cases)
            pq.write_table(table, partial / VALIDATION_FILE, compression="zstd")
            name = fingerprint.of_json([name, digest])
        versions = library_versions("pyarrow", "numpy")
        made_from = {"catalogue": catalogue.fingerprint, **inputs}
        return publish(workspace, KIND, partial, Manifest(KIND, name, inputs=made_from, facts=facts, versions=versions))


def read_validation(version_folder: Path, training: InteractionLog) -> Holdout | None:
    """The cases that a log was published with, or None where it brought none."""
    if not (version_folder / VALIDATION_FILE).exists():
        return None
    table = pq.read_table(version_folder / VALIDATION_FILE, use_threads=False)
    holdout = Holdout(training, *(table[name].to_numpy() for name in (USER, ITEM, TIMESTAMP)))
    lists = {name.removeprefix(_HISTORY): table[name] for name in table.column_names if name.startswith(_HISTORY)}
    if not lists:
        return holdout
    lengths = pc.list_value_length(lists[ITEM]).to_numpy()
    known = InteractionLog(
        users=IdMap.numbered(len(table)),
        items=training.items,
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        **{name: pc.list_flatten(values).to_numpy() for name, values in lists.items()},
    )
    return replace(holdout, known=known)


def _of_cases(cases: Holdout) -> tuple[pa.Table, str]:
    """A table with a row per validation case, and the digest of what it says."""
    columns = {
        USER: cases.users.astype("<i4"),
        ITEM: cases.targets.astype("<i4"),
        TIMESTAMP: cases.times.astype("<i8"),
    }
    if cases.known is None:
        return pa.table(columns), _digest(columns.values())
    known = _columns_of(cases.known)
    offsets = pa.array(cases.known.offsets, pa.int32())
    lists = {_HISTORY + name: pa.ListArray.from_arrays(offsets, values) for name, values in known.items()}
    return pa.table(columns | lists), _digest([*columns.values(), cases.known.offsets, *known.values()])


def _digest(arrays: Iterable[npt.NDArray[Any]]) -> str:
    return fingerprint.of_bytes(values.tobytes() for values in arrays)


def event_columns(log: RawLog, orders: Sequence[str]) -> dict[str, pa.Array]:
    """Which event each interaction of an ordered log is, as columns; ``orders`` are ids by number.

    There are none for a file that says of no kind what it is, whose interactions are all purchases.
    """
    found: dict[str, pa.Array] = {}
    for name, codes, words in ((EVENT, log.event, KINDS), (ORDER, log.order, orders)):
        if codes is not None:
            places = pa.array(codes.astype(np.int32), mask=codes < 0)
            found[name] = pa.DictionaryArray.from_arrays(places, pa.array(words, pa.string()))
    return found if log.number is None else found | {NUMBER: pa.array(log.number)}


class StoredEvents:
    """Which events the interactions of a version are, in their order, for the histories that an index keeps."""

    def __init__(self, version_folder: Path) -> None:
        path = version_folder / LOG_FILE
        names = [name for name in (EVENT, NUMBER, ORDER) if name in pq.read_schema(path).names]
        table = pq.read_table(path, columns=names, use_threads=False)
        self._any = bool(names)
        if EVENT in names:
            self._kinds = np.asarray(pc.index_in(table[EVENT].cast(pa.string()), pa.array(KINDS)).fill_null(-1))
        self._numbers = table[NUMBER].to_numpy() if NUMBER in names else np.zeros(len(table), np.int64)
        self._orders, self._ids = np.full(len(table), -1), pa.array([], pa.string())
        if ORDER in names:
            coded = table[ORDER].unify_dictionaries().combine_chunks()
            self._orders, self._ids = np.asarray(coded.indices.fill_null(-1)), coded.dictionary

    def packed(self, rows: slice) -> bytes:
        """Those of some interactions, see :func:`molar_retrieval.interactions.live.pack_events`."""
        if not self._any:
            return b""
        orders = [None if code < 0 else self._ids[code].as_py() for code in self._orders[rows].tolist()]
        return pack_events(self._kinds[rows].tolist(), self._numbers[rows].tolist(), orders)


def write_tables(log: InteractionLog, folder: Path, events: Mapping[str, pa.Array] | None = None) -> None:
    """Write ``interactions.parquet`` and ``users.parquet``, whose ids are large_string: they may be above 2 GiB.

    ``events`` are those of :func:`event_columns`.
    """
    table = pa.table({name: pa.array(values) for name, values in ({USER: log.user} | _columns_of(log)).items()})
    for name, values in (events or {}).items():
        table = table.append_column(name, values)
    pq.write_table(table, folder / LOG_FILE, compression="zstd", row_group_size=_ROW_GROUP)
    pq.write_table(pa.table({USER_ID: log.users.array}), folder / USERS_FILE, compression="zstd")


def _columns_of(log: InteractionLog) -> dict[str, npt.NDArray[Any]]:
    """What there is of each interaction, by the name of its column, which is that of the log's attribute too."""
    columns: dict[str, npt.NDArray[Any] | None]
    columns = {ITEM: log.item, TIMESTAMP: log.timestamp, WEIGHT: log.weight, STRENGTH: log.strength}
    return {name: values for name, values in columns.items() if values is not None}


def log_facts(log: InteractionLog) -> dict[str, Any]:
    """Counts, a fingerprint of the content, and one of the names of the people in it (``people``)."""
    arrays = [log.offsets, log.item, log.timestamp, log.weight, *([] if log.strength is None else [log.strength])]
    contents = (b"" if values is None else np.ascontiguousarray(values).view(np.uint8).data for values in arrays)
    return {
        "interactions": len(log),
        "users": log.n_users,
        "items": int(np.count_nonzero(counts(log.item, log.n_items))),
        "content": fingerprint.of_bytes(contents),
        "people": log.users.digest,
    }


def log_fingerprint(catalogue: Manifest, facts: Mapping[str, Any]) -> str:
    """The name of a version: what is in the log, for which items, whatever its people are called."""
    return fingerprint.of_json([RULES, catalogue.facts["ids"], facts["content"]])
