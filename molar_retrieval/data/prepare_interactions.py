"""Preparing an interaction log: the file and the events, what is too old left out, as the artefact ``interactions``."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.columns import TIMESTAMP, USER_ID, WEIGHT
from molar_retrieval.data import rows as side_file
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_history import DEFAULT, EventWeights, counted, history_event_types, pack_events
from molar_retrieval.data.event_log_reader import EventLogSnapshot, opened
from molar_retrieval.data.event_parsing import EVENT_TYPES, IDENTIFY
from molar_retrieval.data.interaction_events import EventCounts, Joined, are_days, kinds_of, with_events
from molar_retrieval.data.interaction_reader import InteractionReader, excluded_in_words, log_columns
from molar_retrieval.data.interactions import (
    ITEM,
    LOG_FILE,
    STRENGTH,
    USER,
    USERS_FILE,
    Holdout,
    Interactions,
    RawInteractions,
    counts,
    ordered,
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


@dataclass(frozen=True)
class Retention:
    """What is kept: ``days`` before today, None: all; ``since`` is their beginning, in seconds since 1970."""

    days: int | None = None
    since: int = 0

    @classmethod
    def of(cls, days: int | None, now: float | None = None) -> Self:
        """So many days before a moment, by default the present one."""
        if days is None:
            return cls()
        return cls(days, (int((time.time() if now is None else now) // DAY) - days) * DAY)

    def fits(self, facts: Mapping[str, Any]) -> bool:
        """Whether prepared interactions, by the facts of their manifest, are what is to be kept now."""
        kept = facts.get("kept") or {}
        return kept.get("days") == self.days and (self.days is None or kept["oldest"] >= self.since)

    def require_times(self, dated: bool, name: str) -> None:
        """A SettingsError where a file has no times, by which nobody could tell what is old."""
        if self.days is not None and not dated:
            raise SettingsError(
                f"[privacy] retention_days = {self.days}, and {name} has no times that are dates",
                "bring a column of times, or leave retention_days out and cut the file yourself",
            )

    def kept(self, log: RawInteractions, users: pa.Array) -> tuple[RawInteractions, pa.Array, dict[str, Any]]:
        """A log without what is too old, the users who have anything left, by row, and facts for the manifest.

        A DataError says that nothing is left.
        """
        if self.days is None:
            return log, users, {}
        assert log.micros is not None
        young = log.micros >= self.since * _SECOND
        if not young.any():
            words = f"no interaction is of the last {self.days:,} days, which [privacy] retention_days keeps"
            raise DataError(words, "bring a newer log, or raise retention_days")
        oldest, dropped = int(log.micros[young].min() // _SECOND), int((~young).sum())
        facts = {"kept": {"days": self.days, "since": self.since, "oldest": oldest, "too_old": dropped}}
        return *log.take(young).without_idle(users), facts


KIND = "interactions"
VALIDATION_FILE = "validation.parquet"
EVENT, NUMBER, ORDER = "event", "event_number", "order_id"
_HISTORY = "history_"  # before the names of columns with one list per validation case
RULES = 1  # number of the rules by which a log is kept; a change of them makes every prepared log stale
READING = 3  # number of the rules by which values are read; after a change every log is read anew, once
_ROW_GROUP = 1 << 20


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
            table, digest = _of_cases(cases)
            pq.write_table(table, partial / VALIDATION_FILE, compression="zstd")
            name = fingerprint.of_json([name, digest])
        versions = library_versions("pyarrow", "numpy")
        made_from = {"catalogue": catalogue.fingerprint, **inputs}
        return publish(workspace, KIND, partial, Manifest(KIND, name, inputs=made_from, facts=facts, versions=versions))


def read_validation(version_folder: Path, training: Interactions) -> Holdout | None:
    """The cases that a log was published with, or None where it brought none."""
    if not (version_folder / VALIDATION_FILE).exists():
        return None
    table = pq.read_table(version_folder / VALIDATION_FILE, use_threads=False)
    holdout = Holdout(training, *(table[name].to_numpy() for name in (USER, ITEM, TIMESTAMP)))
    lists = {name.removeprefix(_HISTORY): table[name] for name in table.column_names if name.startswith(_HISTORY)}
    if not lists:
        return holdout
    lengths = pc.list_value_length(lists[ITEM]).to_numpy()
    known = Interactions(
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
        self._any = bool(names)
        if EVENT in names:
            self._kinds = np.asarray(pc.index_in(table[EVENT].cast(pa.string()), pa.array(EVENT_TYPES)).fill_null(-1))
        self._numbers = table[NUMBER].to_numpy() if NUMBER in names else np.zeros(len(table), np.int64)
        self._orders, self._ids = np.full(len(table), -1), pa.array([], pa.string())
        if ORDER in names:
            coded = table[ORDER].unify_dictionaries().combine_chunks()
            self._orders, self._ids = np.asarray(coded.indices.fill_null(-1)), coded.dictionary

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
    table = pa.table({name: pa.array(values) for name, values in ({USER: log.user} | _columns_of(log)).items()})
    for name, values in (events or {}).items():
        table = table.append_column(name, values)
    pq.write_table(table, folder / LOG_FILE, compression="zstd", row_group_size=_ROW_GROUP)
    pq.write_table(pa.table({USER_ID: log.users.array}), folder / USERS_FILE, compression="zstd")


def _columns_of(log: Interactions) -> dict[str, npt.NDArray[Any]]:
    """What there is of each interaction, by the name of its column, which is that of the log's attribute too."""
    columns: dict[str, npt.NDArray[Any] | None]
    columns = {ITEM: log.item, TIMESTAMP: log.timestamp, WEIGHT: log.weight, STRENGTH: log.strength}
    return {name: values for name, values in columns.items() if values is not None}


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


def is_current(
    folder: Path, workspace: Workspace, kinds: EventWeights | None = None, *, keep_days: int | None = None
) -> bool:
    """Whether the workspace's log was made from the files and events as they are now, for its catalogue's items.

    Where days are kept, also whether none of its interactions has become too old since.
    """
    manifest, kept = workspace[KIND].manifest, Retention.of(keep_days)
    sources = _sources(folder, workspace, SuppressionList.of(workspace.root))
    with opened(workspace) as state:
        return manifest is not None and _is_current(manifest, sources, state, kinds, kept)


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
    of events they name the last one that is in (``events``), and the ``kinds``, which where none is in are those that
    count in answers.

    Raises:
        MissingArtefactError: If the workspace has no catalogue yet.
        DataError: If there is neither a file nor an event, the log is unusable as a whole, or was written to meanwhile.
        SettingsError: If days are to be kept of a log without times.
        StaleArtefactError: If another catalogue was prepared meanwhile.
    """
    progress, kept = progress or SILENT, Retention.of(keep_days)
    store = workspace[KIND]
    suppressed = SuppressionList.of(workspace.root)
    with workspace.lock(KIND), pin(workspace, "catalogue", work="molar align") as read, opened(workspace) as state:
        version, catalogue = read["catalogue"].require()
        inputs = {"catalogue": catalogue.fingerprint}
        current, sources = store.manifest, _sources(folder, read, suppressed)
        last = {} if state is None else {"events": state.last}
        free = kinds is None or kinds.chosen_by == "default"
        choose = choose if free and state is not None and _may_choose(current, state) else None
        if choose is None and current is not None and _is_current(current, sources, state, kinds, kept):
            # Of another version of the catalogue the ids are the same, something else in it has changed.
            future = {} if kinds is None or "of_events" in current.facts else kinds.facts
            now = replace(current, inputs=inputs, facts={**current.facts, **future, **last})
            return current if now == current else store.update_manifest(now)
        chosen = _chosen(kinds, current)
        partial, names = empty_partial(store), Pseudonymiser.of(workspace.root)
        with Rejects(partial / side_file.FILE_NAME) as rejects:
            source = _Source(folder, Catalogue(version, catalogue), state, names, suppressed, kept)
            facts = _write(source, partial, rejects, chosen, choose, progress)
        facts |= {"sources": sources, **last}
        name = log_fingerprint(catalogue, facts)
        settings = {"columns": facts.pop("columns"), "times": facts.pop("times")}
        versions = library_versions("pyarrow", "numpy")
        manifest = Manifest(KIND, name, inputs=inputs, settings=settings, facts=facts, versions=versions)
        refuse_changed(folder, sources, _sources(folder, read, suppressed))
        read.confirm()
        progress.note(_summary(facts))
        return publish(workspace, KIND, partial, manifest)


def has_interactions(folder: Path, workspace: Workspace, kinds: EventWeights) -> bool:
    """Whether there is an interactions file, or an event of a kind that counts."""
    if find_file(folder, "interactions") is not None:
        return True
    with opened(workspace) as state:
        return state is not None and state.has_since(0, counted(kinds.weights))


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
    kinds: EventWeights | None,
    kept: Retention,
) -> bool:
    facts = manifest.facts
    if facts.get("sources") != sources or not kept.fits(facts):
        return False
    former, chosen, without = EventWeights.of_facts(facts), _chosen(kinds, manifest), "of_events" not in facts
    if state is None or former is None or without:  # only what a log has now can be missing
        return without and (state is None or not state.has_since(0, history_event_types(chosen.weights)))
    if not chosen.equals(former) or state.removed != facts.get("removed_events", 0):
        return False
    return not state.has_since(facts["events"], (*history_event_types(chosen.weights), IDENTIFY))


@dataclass(frozen=True)
class _Source:
    """What a log is made from; ``events`` is None where there are none."""

    folder: Path
    catalogue: Catalogue
    events: EventLogSnapshot | None
    names: Pseudonymiser
    suppressed: SuppressionList
    kept: Retention


def _write(
    source: _Source, partial: Path, rejects: Rejects, kinds: EventWeights, choose: Choice | None, progress: Progress
) -> dict[str, Any]:
    folder, catalogue, state, suppressed = source.folder, source.catalogue, source.events, source.suppressed
    settings = CatalogueConfig.read(folder)
    file = _read_file(source, settings, rejects, progress)
    people, zone = user_keys(source.names.users(file.user_ids)), settings.interactions.time_zone
    joined = None
    if state is not None:
        every = {**DEFAULT, **kinds.weights} if choose else kinds.weights
        joined = with_events(file.log, file.kinds, people.to_pylist(), catalogue.lookup, state, every, zone, suppressed)
    if joined is not None and state is not None and (len(joined.happened) or file.log is not None):
        if choose is not None:
            kinds = replace(_choice(joined, catalogue.ids, choose, source.kept) or kinds, at=state.last)
        log, people = joined.log(kinds.weights)
        file.facts |= {"of_events": asdict(joined.counts)}
        file.facts |= {"removed_events": state.removed} if state.removed else {}
    elif file.log is None:
        hint = "put interactions.parquet, .csv or .jsonl with user_id, item_id and timestamp there"
        raise DataError(
            f"{folder} has no interactions file, and there are no events of known items that count",
            f"{hint}, or run `molar events append FILE`",
        )
    else:
        log = file.log
        log = log if log.event is None else replace(log, event=kinds_of(log, file.kinds).astype(np.int32))
    log, people, kept = source.kept.kept(log, people)
    file.facts |= kinds.facts | kept
    final = log.grouped(IdMap(people), catalogue.ids)
    orders = [] if joined is None else joined.orders
    file.log = joined = None  # what was sorted may take most of the memory
    of_events = event_columns(log, orders)
    del log, people
    facts: dict[str, Any] = {"rows": file.rows, **log_facts(final), "duplicates": file.duplicates}
    facts |= {**rejects.facts, **file.facts}
    write_tables(final, partial, of_events)
    return facts


def _may_choose(manifest: Manifest | None, state: EventLogSnapshot) -> bool:
    """Whether events came since it was chosen last which kinds count."""
    former = None if manifest is None else EventWeights.of_facts(manifest.facts)
    return state.has_since((former and former.at) or 0, tuple(DEFAULT))


def _choice(joined: Joined, items: IdMap, choose: Choice, kept: Retention) -> EventWeights | None:
    there = joined.kinds(DEFAULT)
    if len(there) < 2:
        return None
    raw, people, _ = kept.kept(*joined.log(DEFAULT))
    return None if raw.event is None else choose(raw.grouped(IdMap(people), items), raw.event, there)


@dataclass
class _File:
    """What the interactions file says, with ids as the shop gives them; ``log`` is None where there is none."""

    log: RawInteractions | None = None
    user_ids: pa.Array = field(default_factory=lambda: pa.array([], pa.large_string()))
    kinds: list[str] = field(default_factory=list)
    rows: int = 0
    duplicates: int = 0
    facts: dict[str, Any] = field(default_factory=lambda: {"columns": {}, "times": None, "others": 0})


def _read_file(source: _Source, settings: CatalogueConfig, rejects: Rejects, progress: Progress) -> _File:
    table, catalogue = find_table(source.folder, "interactions", settings), source.catalogue
    if table is None:
        return _File()
    path = table.path
    columns = log_columns(settings.interactions, table, catalogue.manifest.settings["items"]["item_id"])
    asked = settings.interactions
    where = catalogue.manifest.settings.get("where")
    reader = InteractionReader(
        table, columns, asked, catalogue.lookup, rejects, chosen=where is not None, suppressed=source.suppressed
    )
    progress.start("reading the interactions", table.total)
    raw, user_ids = reader.read(progress)
    progress.finish()
    excluded = reader.orders.excluded.total()
    if not len(raw) and excluded and excluded + rejects.total >= reader.rows:
        words = f"{path}: no row is a purchase; {excluded_in_words(dict(reader.orders.excluded))}"
        raise DataError(words, "check [interactions] exclude_status and cancelled_at in catalog.toml")
    if not len(raw) and reader.others:
        raise DataError(f"no interaction in {path} is with an item where {where}", "choose by another condition")
    if not len(raw):
        remedy = "check that the item ids are those of the items file, or name the columns in catalog.toml"
        raise rejects.unusable(path, reader.rows, nothing="put at least one interaction into it", remedy=remedy)
    source.kept.require_times(raw.micros is not None and reader.dates, path.name)
    count, log = len(raw), without_duplicates(ordered(raw))
    facts = {"columns": vars(columns), "times": reader.times.read_as, "others": reader.others}
    facts |= {"excluded": dict(reader.orders.excluded.most_common())} if excluded else {}
    facts["days"] = log.micros is not None and are_days(log.micros, asked.time_zone)
    return _File(log, user_ids, reader.kinds, reader.rows, count - len(log), facts)


def _summary(facts: dict[str, Any]) -> str:
    words = f"{facts['interactions']:,} interactions of {facts['users']:,} users with {facts['items']:,} items"
    if "of_events" in facts:
        words += f"; {EventCounts(**facts['of_events']).in_words()}"
    if facts["others"]:
        words += f"; {facts['others']:,} with items that are not chosen"
    if (kept := facts.get("kept")) and kept["too_old"]:
        words += f"; {kept['too_old']:,} older than {kept['days']:,} days left out"
    if facts.get("excluded"):
        words += f"; {excluded_in_words(facts['excluded'])}"
    if facts["duplicates"]:
        words += f"; {facts['duplicates']:,} duplicates dropped"
    return words + in_words(facts)


def _sources(folder: Path, workspace: Workspace, suppressed: SuppressionList) -> dict[str, Any]:
    log, catalogue = find_file(folder, "interactions"), workspace["catalogue"].manifest
    facts = {} if catalogue is None else catalogue.facts
    return {
        "rules": READING,
        "files": file_stamps(folder, [FILE_NAME, *([] if log is None else [str(log.relative_to(folder))])]),
        "items": facts.get("ids"),
        "variants": facts.get("variant_ids"),
        "suppressed": suppressed.digest if suppressed else None,
    }
