"""Preparing an interaction log: the file and the events, what is too old left out, as the artefact ``interactions``."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.columns import TIMESTAMP, USER_ID
from molar_retrieval.data import rows as side_file
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_history import DEFAULT, EventWeights, counted, history_event_types, pack_events
from molar_retrieval.data.event_log_reader import EventLogSnapshot, opened
from molar_retrieval.data.event_parsing import EVENT_TYPES, IDENTIFY
from molar_retrieval.data.interaction_events import Joined, are_days, with_events
from molar_retrieval.data.interaction_reader import InteractionReader, excluded_in_words, log_columns
from molar_retrieval.data.interactions import (
    ITEM,
    LOG_FILE,
    USER,
    USERS_FILE,
    Holdout,
    Interactions,
    RawInteractions,
    counts,
    ordered,
    to_tensors,
    without_duplicates,
)
from molar_retrieval.data.prepare import empty_partial, file_stamps, publish, refuse_changed
from molar_retrieval.data.rows import Rejects, in_words
from molar_retrieval.data.schema import FILE_NAME, CatalogueConfig, find_file, find_table
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, user_keys
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.resources import library_versions

DAY = 86_400
_SECOND = 1_000_000
KIND = "interactions"
VALIDATION_FILE, KNOWN_FILE = "validation.parquet", "validation_histories.parquet"
EVENT, NUMBER, ORDER = "event", "event_number", "order_id"
RULES = 1  # number of the rules by which a log is kept; a change of them makes every prepared log stale
READING = 3  # number of the rules by which values are read; after a change every log is read anew, once


def write_log(workspace: Workspace, log: Interactions | Holdout, inputs: Mapping[str, str]) -> Manifest:
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
            columns: dict[str, npt.NDArray[Any]]
            columns = {USER: cases.users, ITEM: cases.targets, TIMESTAMP: cases.times}
            pq.write_table(pa.table(columns), partial / VALIDATION_FILE, compression="zstd")
            arrays = [*columns.values(), *([] if cases.known is None else to_tensors(cases.known).values())]
            name = fingerprint.of_json([name, fingerprint.of_bytes(values.tobytes() for values in arrays)])
            if cases.known is not None:
                cases.known.write(partial / KNOWN_FILE)
        versions = library_versions("pyarrow", "numpy")
        made_from = {"catalogue": catalogue.fingerprint, **inputs}
        return publish(workspace, KIND, partial, Manifest(KIND, name, inputs=made_from, facts=facts, versions=versions))


def read_validation(version_folder: Path, training: Interactions) -> Holdout | None:
    """The cases that a log was published with, or None where it brought none."""
    if not (version_folder / VALIDATION_FILE).exists():
        return None
    table = pq.read_table(version_folder / VALIDATION_FILE, use_threads=False)
    holdout = Holdout(training, *(table[name].to_numpy() for name in (USER, ITEM, TIMESTAMP)))
    if not (version_folder / KNOWN_FILE).exists():
        return holdout
    known = Interactions.read(version_folder / KNOWN_FILE, IdMap.numbered(len(table)), training.items)
    return replace(holdout, known=known)


def event_columns(log: RawInteractions, orders: Sequence[str]) -> dict[str, pa.Array]:
    """Which event each interaction of an ordered log is, as columns; ``orders`` are ids by number.

    There are none for a file that says of no kind what it is, whose interactions are all purchases.
    """
    found: dict[str, pa.Array] = {}
    for name, codes, words in ((EVENT, log.event, EVENT_TYPES), (ORDER, log.order, orders)):
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
        self._any, nothing = bool(names), np.full(len(table), -1)
        self._kinds, self._orders, self._numbers, self._ids = nothing, nothing, nothing + 1, pa.array([], pa.string())
        if EVENT in names:
            self._kinds = np.asarray(pc.index_in(table[EVENT].cast(pa.string()), pa.array(EVENT_TYPES)).fill_null(-1))
        if NUMBER in names:
            coded = table[ORDER].unify_dictionaries().combine_chunks()
            self._orders, self._ids = np.asarray(coded.indices.fill_null(-1)), coded.dictionary
            self._numbers = table[NUMBER].to_numpy()

    def packed(self, rows: slice) -> bytes:
        """Those of some interactions, see :func:`molar_retrieval.data.event_history.pack_events`."""
        if not self._any:
            return b""
        orders = [None if code < 0 else self._ids[code].as_py() for code in self._orders[rows].tolist()]
        return pack_events(self._kinds[rows].tolist(), self._numbers[rows].tolist(), orders)


def write_tables(log: Interactions, folder: Path, events: Mapping[str, pa.Array] | None = None) -> None:
    """Write ``interactions.parquet`` and ``users.parquet``, whose ids are large_string: they may be above 2 GiB.

    ``events`` are those of :func:`event_columns`.
    """
    log.write(folder / LOG_FILE, events)
    pq.write_table(pa.table({USER_ID: log.users.array}), folder / USERS_FILE, compression="zstd")


def log_facts(log: Interactions) -> dict[str, Any]:
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


Choice = Callable[[Interactions, npt.NDArray[np.int32], Sequence[str]], EventWeights | None]
"""Chooses which kinds count: from a log of all of them, what each interaction is (a place in ``EVENT_TYPES``), and the
kinds that occur; None: as they count now."""


def retained_since(days: int, now: float | None = None) -> int:
    """Where so many days before a moment, by default the present one, begin: seconds since 1970."""
    return (int((time.time() if now is None else now) // DAY) - days) * DAY


def is_retained(facts: Mapping[str, Any], days: int | None, now: float | None = None) -> bool:
    """Whether prepared interactions, by the facts of their manifest, are those of the last ``days`` (None: all)."""
    kept = facts.get("kept") or {}
    return kept.get("days") == days and (days is None or kept["oldest"] >= retained_since(days, now))


def is_current(
    folder: Path, workspace: Workspace, kinds: EventWeights | None = None, *, keep_days: int | None = None
) -> bool:
    """Whether the workspace's log was made from the files and events as they are now, for its catalogue's items.

    Where days are kept, also whether none of its interactions has become too old since.
    """
    manifest = workspace[KIND].manifest
    with opened(workspace) as state:
        sources = _sources(folder, workspace, SuppressionList.of(workspace.root), state)
        return manifest is not None and _is_current(manifest, sources, state, _chosen(kinds, manifest), keep_days)


def prepare_interactions(
    folder: Path,
    workspace: Workspace,
    progress: Progress | None = None,
    *,
    kinds: EventWeights | None = None,
    choose: Choice | None = None,
    keep_days: int | None = None,
) -> Manifest:
    """Read, check and order a log into the workspace: the interactions file and the events beside it.

    Nothing happens where the files have not changed, no event came that counts, the same people are left out, and of
    the ``keep_days`` days before today that are kept (None: all) none was left behind. People that
    :mod:`molar_retrieval.privacy.suppression` names are as if they had never been there. ``kinds`` says which
    events count, and how much; None, or no choice of anybody: as ``choose`` says where events came since it was asked
    last, else as it said then, else by default. The manifest's facts count interactions, users, duplicates and rejects;
    of events they name the last one that is in (``events``), and the ``kinds`` that count.

    Raises:
        MissingArtefactError: If the workspace has no catalogue yet.
        DataError: If there is neither a file nor an event, the log is unusable as a whole, or was written to meanwhile.
        SettingsError: If days are to be kept of a log without times.
        StaleArtefactError: If another catalogue was prepared meanwhile.
    """
    progress, store, suppressed = progress or SILENT, workspace[KIND], SuppressionList.of(workspace.root)
    with workspace.lock(KIND), pin(workspace, "catalogue", work="molar align") as read, opened(workspace) as state:
        catalogue = Catalogue(*read["catalogue"].require())
        current, inputs = store.manifest, {"catalogue": catalogue.manifest.fingerprint}
        sources, chosen = _sources(folder, read, suppressed, state), _chosen(kinds, current)
        asked_at = 0 if current is None else current.facts.get("kinds_at", 0)
        if chosen.chosen_by == "settings" or state is None or not state.has_since(asked_at, tuple(DEFAULT)):
            choose = None
        last = {} if state is None else {"events": state.last}
        if choose is None and current is not None and _is_current(current, sources, state, chosen, keep_days):
            # Of another version of the catalogue the ids are the same, something else in it has changed.
            now = replace(current, inputs=inputs, facts={**current.facts, **last})
            return current if now == current else store.update_manifest(now)
        partial = empty_partial(store)
        with Rejects(partial / side_file.FILE_NAME) as rejects:
            log, user_ids, facts = _read_file(folder, catalogue, suppressed, keep_days, rejects, progress)
            users, orders = user_keys(Pseudonymiser.of(workspace.root).users(user_ids)), list[str]()
            if state is not None:
                read_kinds = {**DEFAULT, **chosen.weights} if choose else chosen.weights
                zone = CatalogueConfig.read(folder).interactions.time_zone
                joined = with_events(log, users.to_pylist(), catalogue.lookup, state, read_kinds, zone, suppressed)
                if joined is not None and (len(joined.log) or log is not None):
                    if choose is not None:
                        chosen = replace(_choice(joined, catalogue.ids, choose, keep_days) or chosen, at=state.last)
                    log, users = joined.weighted(chosen.weights)
                    orders, facts["of_events"] = joined.orders, joined.counts
                del joined  # what was sorted may take most of the memory
            if log is None:
                hint = "put interactions.parquet, .csv or .jsonl with user_id, item_id and timestamp there"
                raise DataError(
                    f"{folder} has no interactions file, and there are no events of known items that count",
                    f"{hint}, or run `molar events append FILE`",
                )
            log, users, kept = _recent(log, users, keep_days)
            final, events = log.grouped(IdMap(users), catalogue.ids), event_columns(log, orders)
            del log, users
            settings = {name: facts.pop(name) for name in ("columns", "times")}
            facts |= {**log_facts(final), **rejects.facts, **chosen.facts, **kept, "sources": sources, **last}
            write_tables(final, partial, events)
        name, versions = log_fingerprint(catalogue.manifest, facts), library_versions("pyarrow", "numpy")
        manifest = Manifest(KIND, name, inputs=inputs, settings=settings, facts=facts, versions=versions)
        refuse_changed(folder, sources, _sources(folder, read, suppressed, state))
        read.confirm()
        progress.note(_summary(facts))
        return publish(workspace, KIND, partial, manifest)


def has_interactions(folder: Path, workspace: Workspace, kinds: EventWeights) -> bool:
    """Whether there is an interactions file, or an event of a kind that counts."""
    if find_file(folder, "interactions") is not None:
        return True
    with opened(workspace) as state:
        return state is not None and state.has_since(0, counted(kinds.weights))


def _sources(
    folder: Path, workspace: Workspace, suppressed: SuppressionList, state: EventLogSnapshot | None
) -> dict[str, Any]:
    """What a log is made from, but for events that came."""
    log, catalogue = find_file(folder, "interactions"), workspace["catalogue"].manifest
    facts = {} if catalogue is None else catalogue.facts
    return {
        "rules": READING,
        "files": file_stamps(folder, [FILE_NAME, *([] if log is None else [str(log.relative_to(folder))])]),
        "items": facts.get("ids"),
        "variants": facts.get("variant_ids"),
        "suppressed": suppressed.digest if suppressed else None,
        "removed": 0 if state is None else state.removed,
    }


def _chosen(kinds: EventWeights | None, manifest: Manifest | None) -> EventWeights:
    """The given kinds; where nobody has chosen them, those that validation chose for the former log."""
    former = None if manifest is None else EventWeights.of_facts(manifest.facts)
    if former is not None and former.chosen_by == "validation" and (kinds is None or kinds.chosen_by == "default"):
        return former
    return kinds or EventWeights.of(None)


def _is_current(
    manifest: Manifest,
    sources: dict[str, Any],
    state: EventLogSnapshot | None,
    chosen: EventWeights,
    keep_days: int | None,
) -> bool:
    facts = manifest.facts
    wanted = (sources, dict(chosen.weights), chosen.chosen_by)
    if (facts.get("sources"), facts.get("kinds"), facts.get("kinds_by")) != wanted or not is_retained(facts, keep_days):
        return False
    relevant = (*history_event_types(chosen.weights), IDENTIFY)
    return state is None or not state.has_since(facts.get("events", 0), relevant)


def _choice(joined: Joined, items: IdMap, choose: Choice, keep_days: int | None) -> EventWeights | None:
    there = joined.kinds(DEFAULT)
    if len(there) < 2:
        return None
    raw, users, _ = _recent(*joined.weighted(DEFAULT), keep_days)
    assert raw.event is not None
    return choose(raw.grouped(IdMap(users), items), raw.event, there)


def _recent(
    log: RawInteractions, users: pa.Array, days: int | None
) -> tuple[RawInteractions, pa.Array, dict[str, Any]]:
    """A log of the last days alone, the users who have anything left, by row, and facts for the manifest."""
    if days is None:
        return log, users, {}
    assert log.micros is not None
    since = retained_since(days)
    young = log.micros >= since * _SECOND
    if not young.any():
        words = f"no interaction is of the last {days:,} days, which [privacy] retention_days keeps"
        raise DataError(words, "bring a newer log, or raise retention_days")
    oldest = int(log.micros[young].min() // _SECOND)
    facts = {"days": days, "since": since, "oldest": oldest, "too_old": int((~young).sum())}
    return *log.take(young).without_idle(users), {"kept": facts}


def _read_file(
    folder: Path,
    catalogue: Catalogue,
    suppressed: SuppressionList,
    keep_days: int | None,
    rejects: Rejects,
    progress: Progress,
) -> tuple[RawInteractions | None, pa.Array, dict[str, Any]]:
    """The ordered log of the interactions file, its users' ids as the shop gives them, by row, and facts.

    The log is None where there is no file.
    """
    settings = CatalogueConfig.read(folder)
    asked, table = settings.interactions, find_table(folder, "interactions", settings)
    if table is None:
        facts: dict[str, Any] = {"columns": {}, "times": None, "others": 0, "rows": 0, "duplicates": 0}
        return None, pa.array([], pa.large_string()), facts
    path, where = table.path, catalogue.manifest.settings.get("where")
    columns = log_columns(asked, table, catalogue.manifest.settings["items"]["item_id"])
    reader = InteractionReader(
        table, columns, asked, catalogue.lookup, rejects, chosen=where is not None, suppressed=suppressed
    )
    progress.start("reading the interactions", table.total)
    raw, user_ids = reader.read(progress)
    progress.finish()
    excluded = dict(reader.orders.excluded.most_common())
    if not len(raw):
        if excluded and sum(excluded.values()) + rejects.total >= reader.rows:
            words = f"{path}: no row is a purchase; {excluded_in_words(excluded)}"
            raise DataError(words, "check [interactions] exclude_status and cancelled_at in catalog.toml")
        if reader.others:
            raise DataError(f"no interaction in {path} is with an item where {where}", "choose by another condition")
        remedy = "check that the item ids are those of the items file, or name the columns in catalog.toml"
        raise rejects.unusable(path, reader.rows, nothing="put at least one interaction into it", remedy=remedy)
    if keep_days is not None and not (raw.micros is not None and reader.dates):
        raise SettingsError(
            f"[privacy] retention_days = {keep_days}, and {path.name} has no times that are dates",
            "bring a column of times, or leave retention_days out and cut the file yourself",
        )
    count, log = len(raw), without_duplicates(ordered(raw))
    facts = {
        "columns": vars(columns),
        "times": reader.times.read_as,
        "rows": reader.rows,
        "others": reader.others,
        "excluded": excluded,
        "duplicates": count - len(log),
        "days": log.micros is not None and are_days(log.micros, asked.time_zone),
    }
    return log, user_ids, facts


def _summary(facts: dict[str, Any]) -> str:
    words = f"{facts['interactions']:,} interactions of {facts['users']:,} users with {facts['items']:,} items"
    if "of_events" in facts:
        events = {name.replace("_", " "): n for name, n in facts["of_events"].items()}
        others = "".join(f", {n:,} {name}" for name, n in events.items() if n and name != "counted")
        words += f"; {events['counted']:,} events{others}"
    if facts["others"]:
        words += f"; {facts['others']:,} with items that are not chosen"
    if (kept := facts.get("kept")) and kept["too_old"]:
        words += f"; {kept['too_old']:,} older than {kept['days']:,} days left out"
    if facts.get("excluded"):
        words += f"; {excluded_in_words(facts['excluded'])}"
    if facts["duplicates"]:
        words += f"; {facts['duplicates']:,} duplicates dropped"
    return words + in_words(facts)
