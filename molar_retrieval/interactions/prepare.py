"""From a catalogue's interactions file and its events to the workspace's ``interactions`` artefact."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from molar_retrieval.data import rows as side_file
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import empty_partial, file_stamps, publish, refuse_changed
from molar_retrieval.data.rows import Rejects, in_words
from molar_retrieval.data.schema import FILE_NAME, CatalogueConfig, find_file, find_table
from molar_retrieval.errors import DataError
from molar_retrieval.events.event import IDENTIFY
from molar_retrieval.events.kinds import DEFAULT, Kinds, counted, matter, with_later
from molar_retrieval.events.snapshot import LogState, opened
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions.columns import log_columns
from molar_retrieval.interactions.events import EventCounts, Joined, are_days, kinds_of, with_events
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.interactions.order_status import OrderStatus, excluded_in_words
from molar_retrieval.interactions.people import check_users
from molar_retrieval.interactions.raw import RawLog, ordered, without_duplicates
from molar_retrieval.interactions.read import LogReader
from molar_retrieval.interactions.retention import Retention
from molar_retrieval.interactions.times import TimeParser
from molar_retrieval.interactions.write import KIND, READING, event_columns, log_facts, log_fingerprint, write_tables
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, user_keys
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.resources import library_versions

Choice = Callable[[InteractionLog, npt.NDArray[np.int32], Sequence[str]], Kinds | None]
"""Chooses which kinds count: from a log of all of them, what each interaction is (a place in ``KINDS``), and the kinds
that occur; None: as they count now."""


def is_current(folder: Path, workspace: Workspace, kinds: Kinds | None = None, *, keep_days: int | None = None) -> bool:
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
    kinds: Kinds | None = None,
    choose: Choice | None = None,
    keep_days: int | None = None,
) -> Manifest:
    """Read, check and order a log into the workspace: the interactions file and the events beside it.

    Nothing happens where the files have not changed, no event came that counts, the same people are left out, and of
    the ``keep_days`` days before today that are kept (None: all) none was left behind. People that
    :mod:`molar_retrieval.privacy.suppression` names are as if they had never been there. ``kinds`` says which
    events count, and how much; None, or no choice of anybody: as ``choose`` says where events came since it was asked
    last, else as it said then, else by default. The manifest's facts count interactions, users, duplicates and rejects;
    of events they name the last one that is in (``events``), and the ``kinds``; where none is in, see
    :func:`.with_later`.

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
            now = replace(current, inputs=inputs, facts={**with_later(current.facts, kinds), **last})
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


def has_interactions(folder: Path, workspace: Workspace, kinds: Kinds) -> bool:
    """Whether there is an interactions file, or an event of a kind that counts."""
    if find_file(folder, "interactions") is not None:
        return True
    with opened(workspace) as state:
        return state is not None and state.has_since(0, counted(kinds.weights))


def _chosen(kinds: Kinds | None, manifest: Manifest | None) -> Kinds:
    """The given kinds; where nobody has chosen them, those that validation chose for the former log."""
    former = None if manifest is None else Kinds.of_facts(manifest.facts)
    if former is not None and former.chosen_by == "validation" and (kinds is None or kinds.chosen_by == "default"):
        return former
    return kinds or Kinds.of(None)


def _is_current(
    manifest: Manifest, sources: dict[str, Any], state: LogState | None, kinds: Kinds | None, kept: Retention
) -> bool:
    facts = manifest.facts
    if facts.get("sources") != sources or not kept.fits(facts):
        return False
    former, chosen = Kinds.of_facts(facts), _chosen(kinds, manifest)
    if state is None or former is None:  # only what a log has now can be missing
        return former is None and (state is None or not state.has_since(0, matter(chosen.weights)))
    if not chosen.equals(former) or state.removed != facts.get("removed_events", 0):
        return False
    return not state.has_since(facts["events"], (*matter(chosen.weights), IDENTIFY))


@dataclass(frozen=True)
class _Source:
    """What a log is made from; ``events`` is None where there are none."""

    folder: Path
    catalogue: Catalogue
    events: LogState | None
    names: Pseudonymiser
    suppressed: SuppressionList
    kept: Retention


def _write(
    source: _Source, partial: Path, rejects: Rejects, kinds: Kinds, choose: Choice | None, progress: Progress
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
        file.facts |= {**kinds.facts, "of_events": asdict(joined.counts)}
        file.facts |= {"removed_events": state.removed} if state.removed else {}
    elif file.log is None:
        hint = "put interactions.parquet, .csv or .jsonl with user_id, item_id and timestamp there"
        raise DataError(
            f"{folder} has no interactions file, and there are no events of known items that count",
            f"{hint}, or run `molar events append FILE`",
        )
    else:
        log, file.facts = file.log, with_later(file.facts, kinds)
        log = log if log.event is None else replace(log, event=kinds_of(log, file.kinds).astype(np.int32))
    log, people, kept = source.kept.kept(log, people)
    file.facts |= kept
    final = log.grouped(IdMap(people), catalogue.ids)
    orders = [] if joined is None else joined.orders
    file.log = joined = None  # what was sorted may take most of the memory
    of_events = event_columns(log, orders)
    del log, people
    facts: dict[str, Any] = {"rows": file.rows, **log_facts(final), "duplicates": file.duplicates}
    facts["users_file"] = check_users(folder, settings.users, file.user_ids, rejects, suppressed)
    facts |= {**rejects.facts, **file.facts}
    write_tables(final, partial, of_events)
    return facts


def _may_choose(manifest: Manifest | None, state: LogState) -> bool:
    """Whether events came since it was chosen last which kinds count."""
    former = None if manifest is None else Kinds.of_facts(manifest.facts)
    return state.has_since((former and former.at) or 0, tuple(DEFAULT))


def _choice(joined: Joined, items: IdMap, choose: Choice, kept: Retention) -> Kinds | None:
    there = joined.kinds(DEFAULT)
    if len(there) < 2:
        return None
    raw, people, _ = kept.kept(*joined.log(DEFAULT))
    return None if raw.event is None else choose(raw.grouped(IdMap(people), items), raw.event, there)


@dataclass
class _File:
    """What the interactions file says, with ids as the shop gives them; ``log`` is None where there is none."""

    log: RawLog | None = None
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
    times = TimeParser(asked.time_unit, asked.time_format, asked.time_zone)
    where = catalogue.manifest.settings.get("where")
    reader = LogReader(
        table,
        columns,
        catalogue.lookup,
        times,
        rejects,
        chosen=where is not None,
        suppressed=source.suppressed,
        orders=OrderStatus(asked, vars(columns)),
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
    facts = {"columns": vars(columns), "times": times.read_as, "others": reader.others, **reader.orders.facts}
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
    log, users = find_file(folder, "interactions"), find_file(folder, "users")
    names = [str(path.relative_to(folder)) for path in (log, users) if path is not None]
    catalogue = workspace["catalogue"].manifest
    left_out = {"suppressed": suppressed.digest} if suppressed else {}
    return (
        left_out
        | {
            "rules": READING,
            "files": file_stamps(folder, [FILE_NAME, *names]),
            "items": None if catalogue is None else catalogue.facts["ids"],
        }
        | (
            {}
            if catalogue is None or "variants" not in catalogue.facts
            else {"variants": catalogue.facts["variant_ids"]}
        )
    )
