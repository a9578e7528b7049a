"""Gathers the facts of a report on privacy from manifests, settings and logs of a workspace; nothing is written."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix, triu

from molar_indexes.generations import carried
from molar_indexes.recommender import RULES_FILE
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.interactions import LOG_FILE, Interactions
from molar_retrieval.data.schema import find_table
from molar_retrieval.errors import DataError
from molar_retrieval.models.als import open_log
from molar_retrieval.models.item_item import binary, countable
from molar_retrieval.models.k_anonymity import users_of_pairs
from molar_retrieval.privacy.ledger import FILE as LEDGER
from molar_retrieval.privacy.ledger import PrivacyLedger
from molar_retrieval.privacy.pseudonyms import FILE as PSEUDONYMS
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.ranking.objectives import slots_of
from molar_retrieval.workspace.activity_log import work_done
from molar_retrieval.workspace.artefacts import PRIVATE, Manifest, Workspace
from molar_retrieval.workspace.config_files import read_toml
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.files import MANIFEST
from molar_retrieval.workspace.settings import USUAL, MolarSettings

Unit = Literal[
    "count",
    "share",
    "score",
    "moment",
    "bytes",
    "seconds",
    "minutes",
    "days",
    "money",
    "watts",
    "watt_hours",
    "yes",
    "text",
    "list",
]
"""``share`` is of 1, ``moment`` in seconds since 1970, ``yes`` a truth value, ``list`` names."""
Value = int | float | str | bool | list[str] | None
_BLOCK = 4096
_WORKS = 100_000
_HOUR = 3600
_SCOPES = ("answer", "studio", "admin", "events", "catalogue", "rules")
_EVALUATION = ("splits", "models", "runs")
_WITHOUT_PEOPLE = ("catalogue", "content", "push", "workspace.json")


@dataclass(frozen=True)
class Fact:
    """Something that is known, or None where it is not.

    Attributes:
        value: In the unit.
        unit: What it is in.
        source: A manifest and the keys in it, a setting, or a file and how it was counted.
    """

    value: Value
    unit: Unit
    source: str

    def to_dict(self) -> dict[str, Any]:
        """The fact as it is in the file of facts."""
        return {"value": self.value, "unit": self.unit, "from": self.source}


@dataclass
class ReportSection:
    """Facts of one section of the page by name; what stands behind a ``/`` in a name comes from the data."""

    facts: dict[str, Fact] = field(default_factory=dict)

    def add(self, name: str, value: Value, unit: Unit, source: str) -> None:
        """One fact more."""
        self.facts[name] = Fact(value, unit, source)

    def setting(self, name: str, settings: Any, key: str, unit: Unit) -> None:
        """A setting by its key, ``section.name``; None where it is not set."""
        section, _, own = key.partition(".")
        self.add(name, getattr(getattr(settings, section), own), unit, f"settings: {key}")

    def to_dict(self) -> dict[str, Any]:
        """The facts as they are in the file."""
        return {name: fact.to_dict() for name, fact in self.facts.items()}


class LiveManifest:
    """The manifest of a live version, in which facts are found by their keys."""

    def __init__(self, workspace: Workspace, kind: str) -> None:
        live = workspace[kind].live
        self.content: dict[str, Any] | None = None if live is None else asdict(live[1])
        self.path = "" if live is None else f"{kind}/{live[0].name}/{MANIFEST}"

    @classmethod
    def answering(cls, workspace: Workspace) -> Self:
        """That of the alignment that answers: the live generation carries it, also after a rollback."""
        found = cls(workspace, "alignment")
        generation = workspace["generations"].current
        folder = None if generation is None else carried(generation)
        if folder is not None:
            found.content = asdict(Manifest.read(folder))
            found.path = f"{folder.relative_to(workspace.root).as_posix()}/{MANIFEST}"
        return found

    def at(self, *keys: str) -> Any:
        """What it says there; None where it says nothing."""
        found: Any = self.content
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def source(self, *keys: str) -> str:
        """Where that stands."""
        return f"{self.path}: {'.'.join(keys)}"

    def put(self, section: ReportSection, name: str, unit: Unit, *keys: str) -> None:
        """Add what it says to a section, if it says something."""
        if (value := self.at(*keys)) is not None:
            section.add(name, value, unit, self.source(*keys))


@dataclass(frozen=True)
class Leakage:
    """What is measured of pairs of two different items that somebody had both.

    Attributes:
        pairs: How many there are.
        few: How many of them fewer people than asked for had.
        people: People with two items or more.
        alone: How many of these had a pair that nobody else had.
    """

    pairs: int
    few: int
    people: int
    alone: int


def leakage_of(log: Interactions, least: int) -> Leakage:
    """Measure it; of very long histories the latest interactions count, as in training (:func:`countable`)."""
    log = countable(log)
    pairs = csr_matrix(triu(users_of_pairs(log), k=1))
    single = pairs.copy()
    single.data = (single.data == 1).astype(np.float32)
    single.eliminate_zeros()
    had = binary(log)
    alone = 0
    for begin in range(0, had.shape[0], _BLOCK):
        own = had[begin : begin + _BLOCK]
        alone += int(np.count_nonzero(np.asarray((own @ single).multiply(own).sum(axis=1))))
    people = int(np.count_nonzero(np.diff(had.indptr) >= 2))
    return Leakage(pairs.nnz, int(np.count_nonzero(pairs.data < least)), people, alone)


def collect(workspace: Workspace, settings: MolarSettings, catalogue: Path | None) -> dict[str, ReportSection]:
    """All facts by section; those of what was not made yet are not there.

    Args:
        workspace: Whose.
        settings: Its settings, as they are now.
        catalogue: The folder with the users file; None: it is not known.

    Raises:
        StaleArtefactError: If the interactions are not those of the catalogue, or a manifest is damaged.
    """
    log = open_log(workspace) if workspace["interactions"].live is not None else None
    return {
        "data": _data(workspace, catalogue, log),
        "copies": _copies(workspace, settings),
        "retention": _retention(settings),
        "readers": _readers(workspace),
        "measures": _measures(workspace, settings, log),
        "risks": _risks(workspace, settings),
        "leakage": _leakage(workspace, settings, log),
        "model": _model(workspace),
        "ranking": _ranking(workspace),
        "costs": _costs(workspace, settings),
    }


def _data(workspace: Workspace, catalogue: Path | None, log: Interactions | None) -> ReportSection:
    found, manifest = ReportSection(), LiveManifest(workspace, "interactions")
    LiveManifest(workspace, "catalogue").put(found, "items", "count", "facts", "items")
    for name in ("users", "interactions"):
        manifest.put(found, name, "count", "facts", name)
    if log is not None and log.timestamp.any():
        source = f"{Path(manifest.path).parent}/{LOG_FILE}: timestamp"
        timed = log.timestamp[log.timestamp != 0]
        found.add("first", int(timed.min()), "moment", f"{source}, the least")
        found.add("last", int(timed.max()), "moment", f"{source}, the greatest")
    columns = manifest.at("settings", "columns")
    if columns:
        named = [column for column in columns.values() if column is not None]
        found.add("columns", named, "list", manifest.source("settings", "columns"))
    found.add("user_columns", *_user_columns(catalogue))
    _events(found, workspace)
    return found


def _user_columns(catalogue: Path | None) -> tuple[list[str] | None, Unit, str]:
    if catalogue is None or not catalogue.is_dir():
        return None, "list", "the catalogue's folder is not there"
    table = find_table(catalogue, "users")
    if table is None:
        return [], "list", "the catalogue has no users file"
    return list(table.names), "list", f"{table.path.name}: its columns"


def _events(found: ReportSection, workspace: Workspace) -> None:
    """Counts of events by kind, and from when to when they are."""
    kinds: Counter[str] = Counter()
    first, last = None, None
    with opened(workspace) as state:
        if state is None:
            return
        for table in state.tables(["event", "timestamp"]):
            for one in pc.value_counts(table["event"]).to_pylist():
                kinds[one["values"]] += one["counts"]
            if len(table):
                ends = pc.min_max(table["timestamp"].cast(pa.int64())).as_py()
                first = ends["min"] if first is None else min(first, ends["min"])
                last = ends["max"] if last is None else max(last, ends["max"])
        days = len(state.sealed(0))
    for kind, count in sorted(kinds.items()):
        found.add(f"events/{kind}", count, "count", f"events/log.sqlite and its sealed days: lines of {kind}")
    if first is not None and last is not None:
        found.add("events_first", first // 1_000_000, "moment", "events/log.sqlite and its sealed days: timestamp")
        found.add("events_last", last // 1_000_000, "moment", "events/log.sqlite and its sealed days: timestamp")
    found.add("events_sealed", days, "count", "events/log.sqlite: sealed days")


def _copies(workspace: Workspace, settings: MolarSettings) -> ReportSection:
    """Everything in the workspace that may hold something of people, with its size."""
    found = ReportSection()
    for path in sorted(path for path in workspace.root.iterdir() if path.name not in _WITHOUT_PEOPLE):
        if size := _size(path):
            found.add(f"place/{path.name}", size, "bytes", f"{path.name}: sizes of its files")
    for kind in ("interactions", "alignment", "generations"):
        found.add(f"versions/{kind}", len(workspace[kind].versions()), "count", f"{kind}/: versions")
    for kind in _EVALUATION:
        folders = [path for path in (workspace.root / "evaluation" / kind).glob("*") if path.is_dir()]
        found.add(f"evaluation/{kind}", len(folders), "count", f"evaluation/{kind}/: folders")
    found.setting("server", settings, "index.url", "text")
    return found


def _size(path: Path) -> int:
    """Bytes of a file, or of all below a folder; those that go meanwhile do not count."""
    size = 0
    for one in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
        with suppress(FileNotFoundError):
            found = one.lstat()
            size += found.st_size if S_ISREG(found.st_mode) else 0
    return size


def _retention(settings: MolarSettings) -> ReportSection:
    found = ReportSection()
    found.setting("keep_days", settings, "events.keep_days", "days")
    found.setting("keep_interactions", settings, "privacy.retention_days", "days")
    found.setting("keep_copies", settings, "privacy.copy_retention_days", "days")
    found.setting("keep_generations", settings, "index.keep", "count")
    found.setting("keep_answers", settings, "serve.response_ttl_minutes", "minutes")
    found.setting("access_log", settings, "serve.access_log", "yes")
    return found


def _measures(workspace: Workspace, settings: MolarSettings, log: Interactions | None) -> ReportSection:
    found = ReportSection()
    if log is not None:
        found.add("min_users", _fewest(settings, log), "count", "settings: privacy.min_users, else by the users")
    manifest = LiveManifest.answering(workspace)
    if manifest.content is not None:
        source = f"{manifest.source('facts', 'least')}, 1 where it says nothing"
        found.add("min_users_trained", manifest.at("facts", "min_users") or 1, "count", source)
    if (epsilon := manifest.at("facts", PRIVATE, "epsilon")) is not None:
        found.add("epsilon", f"{epsilon:g}", "text", manifest.source("facts", PRIVATE, "epsilon"))
        standing = PrivacyLedger(workspace.root).standing(settings.privacy)
        spent = f"{standing.spent:.2f} / {standing.yearly:g}"
        found.add("epsilon_spent", spent, "text", f"{LEDGER}: 365 days, composed; settings: privacy.yearly_epsilon")
    found.add("pseudonyms", len(Pseudonymiser.of(workspace.root).keys), "count", f"{PSEUDONYMS}: keys; 0 without it")
    found.add("mode", f"{workspace.root.stat().st_mode & 0o777:04o}", "text", "mode of the workspace's folder")
    found.add("tls", settings.serve.certificate is not None, "yes", "settings: serve.certificate is set")
    found.setting("users_at", settings, "index.users", "text")
    return found


def _fewest(settings: MolarSettings, log: Interactions) -> int:
    """The fewest people that the settings ask for, as training takes them."""
    return settings.privacy.fewest(int(np.count_nonzero(np.diff(log.offsets))))


def _readers(workspace: Workspace) -> ReportSection:
    """Who may ask a server what, by its keys; DataError if their file is damaged."""
    found, path = ReportSection(), workspace.root / "serving" / "keys.json"
    try:
        keys = json.loads(path.read_text("utf-8"))["keys"] if path.exists() else []
        scopes = Counter(scope for key in keys for scope in set(key.get("scopes", ())))
        browsers = sum(bool(key.get("origins")) for key in keys)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "make keys anew with `molar keys add NAME`") from error
    found.add("keys", len(keys), "count", "serving/keys.json: keys")
    found.add("browsers", browsers, "count", "serving/keys.json: keys with origins")
    for scope in _SCOPES:
        found.add(f"scope/{scope}", scopes[scope], "count", f"serving/keys.json: keys with the scope {scope}")
    return found


def _risks(workspace: Workspace, settings: MolarSettings) -> ReportSection:
    """For each risk, whether the measure against it is in force."""
    found, manifest = ReportSection(), LiveManifest.answering(workspace)
    if manifest.content is not None:
        on = (manifest.at("facts", "min_users") or 1) > 1
        found.add("inference", on, "yes", f"{manifest.source('facts', 'least')}: above 1")
    closed = workspace.root.stat().st_mode & 0o077 == 0
    found.add("readers", closed, "yes", "mode of the workspace's folder")
    found.add("names", bool(Pseudonymiser.of(workspace.root).keys), "yes", f"{PSEUDONYMS} is there")
    at_home = settings.index.url is None or settings.index.users == "local"
    found.add("server", at_home, "yes", "settings: index.url, index.users")
    found.add("network", settings.serve.certificate is not None, "yes", "settings: serve.certificate is set")
    found.add("storage", settings.events.keep_days is not None, "yes", "settings: events.keep_days is set")
    runs = any((workspace.root / "evaluation").glob("*/*"))
    found.add("evaluations", not runs, "yes", "evaluation/: folders")
    return found


def _leakage(workspace: Workspace, settings: MolarSettings, log: Interactions | None) -> ReportSection:
    found = ReportSection()
    if log is None:
        return found
    fewest = _fewest(settings, log)
    least = fewest if fewest > 1 else USUAL
    measured, source = leakage_of(log, least), f"{Path(LiveManifest(workspace, 'interactions').path).parent}/{LOG_FILE}"
    found.add("measured_with", least, "count", f"settings: privacy.min_users where it is above 1, else {USUAL}")
    found.add("pairs", measured.pairs, "count", f"{source}: pairs of items that somebody had both")
    if measured.pairs:
        share = measured.few / measured.pairs
        found.add("pairs_below", share, "share", f"{source}: pairs that fewer people had, of these")
    found.add("people_two", measured.people, "count", f"{source}: people with two items or more")
    if measured.people:
        share = measured.alone / measured.people
        found.add("people_alone", share, "share", f"{source}: people with a pair that nobody else had, of these")
    return found


def _model(workspace: Workspace) -> ReportSection:
    """The facts of a model card."""
    found, manifest = ReportSection(), LiveManifest.answering(workspace)
    if manifest.content is None:
        return found
    found.add("created", manifest.at("created"), "text", manifest.source("created"))
    manifest.put(found, "preset", "text", "settings", "align", "preset")
    for name in ("users", "items", "cold_items", "training_interactions"):
        manifest.put(found, name, "count", "facts", name)
    manifest.put(found, "learned_until", "moment", "facts", "learned_until")
    manifest.put(found, "validation_cases", "count", "facts", "validation_cases")
    for name in manifest.at("facts", "scores") or {}:
        manifest.put(found, f"ndcg/{name}", "score", "facts", "scores", name, "ndcg@10")
        manifest.put(found, f"recall/{name}", "score", "facts", "scores", name, "recall@10")
    for name in manifest.at("facts", "weights") or {}:
        manifest.put(found, f"weight/{name}", "score", "facts", "weights", name)
    for section in ("align", "split"):
        manifest.put(found, f"seed/{section}", "count", "settings", section, "seed")
    content = LiveManifest(workspace, "content")
    content.put(found, "encoder", "text", "settings", "encoder", "name")
    content.put(found, "encoder_licence", "text", "settings", "encoder", "licence")
    manifest.put(found, "version/molar", "text", "molar")
    for name in manifest.at("versions") or {}:
        manifest.put(found, f"version/{name}", "text", "versions", name)
    return found


def _ranking(workspace: Workspace) -> ReportSection:
    """What decides on the order of a list, the weightiest part first."""
    found, manifest = ReportSection(), LiveManifest.answering(workspace)
    shares = manifest.at("facts", "shares") or {}
    for name in sorted(shares, key=lambda one: -shares[one]):
        manifest.put(found, f"part/{name}", "share", "facts", "shares", name)
    if manifest.content is not None:
        on = manifest.at("facts", "reranker") is not None
        found.add("second_stage", on, "yes", manifest.source("facts", "reranker"))
    generation = LiveManifest(workspace, "generations")
    generation.put(found, "cold_start", "count", "facts", "cold_start")
    for name, keys in (("newcomer_places", ("facts",)), ("tried_places", ("facts", "exploration"))):
        if (told := generation.at(*keys)) is not None:
            found.add(name, len(slots_of(told)), "count", generation.source(*keys, "slots"))
    rules = file_beside(workspace.root, RULES_FILE)
    count = len(read_toml(rules).get("rule", ())) if rules.exists() else 0
    found.add("rules", count, "count", f"{RULES_FILE}: rules")
    return found


def _costs(workspace: Workspace, settings: MolarSettings) -> ReportSection:
    """What commands took by the log of work; in money where an hour has a price, in energy where watts are told."""
    found = ReportSection()
    seconds: dict[str, list[float]] = defaultdict(list)
    done = work_done(workspace, _WORKS)
    if done:
        since = int(datetime.fromisoformat(done[-1].begun).timestamp())
        found.add("since", since, "moment", "work/log.jsonl: begun, of the oldest line")
    for one in done:
        if one.seconds is not None:
            seconds[one.what].append(one.seconds)
    for what, took in sorted(seconds.items()):
        found.add(f"works/{what}", len(took), "count", f"work/log.jsonl: lines of {what}")
        found.add(f"took/{what}", round(sum(took), 2), "seconds", f"work/log.jsonl: seconds of {what}")
    every = round(sum(map(sum, seconds.values())), 2)
    found.add("took_all", every, "seconds", "work/log.jsonl: seconds of all lines")
    found.add("currency", settings.costs.currency, "text", "settings: costs.currency")
    price = settings.costs.machine_hour
    found.setting("machine_hour", settings, "costs.machine_hour", "money")
    money = None if price is None else round(every / _HOUR * price, 4)
    found.add("money_all", money, "money", "work/log.jsonl: hours of all lines, times settings: costs.machine_hour")
    watts = settings.costs.watts
    found.setting("watts", settings, "costs.watts", "watts")
    energy = None if watts is None else round(every / _HOUR * watts, 2)
    found.add("energy_all", energy, "watt_hours", "work/log.jsonl: hours of all lines, times settings: costs.watts")
    return found
