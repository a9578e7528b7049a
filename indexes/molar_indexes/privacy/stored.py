"""Everything that is stored on one person, in an order and words that they can read (GDPR, articles 15 and 20)."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_indexes.privacy.known import id_patterns, ids_of
from molar_indexes.users import UserStore
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, TITLE, USER_ID
from molar_retrieval.data.event_log_reader import Person, opened
from molar_retrieval.data.interaction_reader import log_columns, user_column
from molar_retrieval.data.interactions import ITEM, LOG_FILE, USER, USERS_FILE
from molar_retrieval.data.schema import CatalogueConfig, find_table
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.tensors import mapped

_BATCH = 65_536
_UNKNOWN = (
    "the systems that the catalogue's files come from: the shop's database, its web server's logs",
    "backups, and snapshots of disks and of database servers",
    "files that were written elsewhere, as lists of `molar recommend`, exports and reports; `molar privacy scan --also`"
    " looks into them",
    "what models have learnt from many people together: it is no record of anybody, and cannot be shown for one",
)


@dataclass(frozen=True)
class StoredPart:
    """One kind of thing that is stored.

    Attributes:
        name: What it is.
        about: Where it comes from and what it is for, in a sentence or two.
        rows: The things themselves.
    """

    name: str
    about: str
    rows: Sequence[dict[str, Any]]

    @property
    def columns(self) -> list[str]:
        """Names of what the rows hold, in the order in which they first come."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


@dataclass(frozen=True)
class StoredOnPerson:
    """All that is stored on somebody.

    Attributes:
        user_id: Who.
        made: When this was put together, in UTC (ISO 8601).
        parts: What there is, each kind described; a kind of which there is nothing has no rows.
        not_included: What this cannot know of.
    """

    user_id: str
    made: str
    parts: Sequence[StoredPart]
    not_included: Sequence[str]

    @property
    def rows(self) -> int:
        """How many things are stored."""
        return sum(len(part.rows) for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def stored_on(workspace: Workspace, folder: Path | None, user_id: str, server: str | None) -> StoredOnPerson:
    """Put together what a workspace and the ``folder`` of its catalogue hold of somebody.

    ``server`` is the address of a Qdrant server that holds users as well, or None.
    """
    _, known = id_patterns(workspace, user_id)
    names = Pseudonymiser.of(workspace.root)
    people = [("user_id", known.name), *(("session_id", one) for one in known.sessions)]
    parts = [
        StoredPart(
            "profile",
            "What the shop's users file says of the person; columns named in [index] segments choose lists by rules.",
            [] if folder is None else list(_rows_of(folder, "users", known.name, names)),
        ),
        StoredPart(
            "purchases and other interactions",
            "Rows of the shop's log, as they stand in its file. Lists are made of them.",
            [] if folder is None else list(_rows_of(folder, "interactions", known.name, names)),
        ),
        StoredPart(
            "history",
            "The log as molar keeps it, with events: what the person took, in the order of time. Lists are made of it.",
            list(_history(workspace, known.keys)),
        ),
        StoredPart(
            "events",
            "What the shop reported of the person, and of visits that are known to be theirs, as it came: views,"
            " clicks, purchases, lists that were shown.",
            list(_events(workspace, people)),
        ),
        StoredPart(
            "computed",
            "Numbers that were computed from the history. Alone they mean nothing; lists are ordered by comparing them"
            " with those of items.",
            [*_vectors(workspace, known.keys), *_factors(workspace, known.rows)],
        ),
        StoredPart(
            "experiments",
            "In which comparisons of lists the person takes part, with which of the two kinds, since when.",
            list(_experiments(workspace, known.keys)),
        ),
        StoredPart(
            "copies for evaluations",
            "Evaluations keep copies of the log by which lists are tried out.",
            [{"folder": str(one.relative_to(workspace.root))} for one in sorted(known.evaluations)],
        ),
    ]
    unknown = list(_UNKNOWN)
    if folder is None:
        unknown.insert(0, "the catalogue's folder, which is not where it was")
    if server is not None:
        unknown.insert(0, f"the server at {server}: it holds copies of `computed` and `history`")
    unknown += known.unread
    return StoredOnPerson(user_id, datetime.now(UTC).isoformat(timespec="seconds"), parts, unknown)


def _rows_of(
    folder: Path, stem: Literal["users", "interactions"], person: StoredName, names: Pseudonymiser
) -> Iterator[dict[str, Any]]:
    """The person's rows of a file of the catalogue, all columns."""
    settings = CatalogueConfig.read(folder)
    source = find_table(folder, stem, settings)
    if source is None:
        return
    if stem == "users":
        name = user_column(settings.users, source)
    else:
        name = log_columns(settings.interactions, source, ITEM_ID).user_id
    for rows in source.batches(source.names, _BATCH, None, [name]):
        mine = pc.equal(names.users(rows.batch[name]), person)
        if pc.any(mine, min_count=0).as_py():
            yield from (_plain(row) for row in pa.Table.from_batches([rows.batch]).filter(mine).to_pylist())


def _history(workspace: Workspace, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    folder = workspace["interactions"].current
    if folder is None:
        return
    users = pq.read_table(folder / USERS_FILE, use_threads=False)[USER_ID]
    places = [place for key in keys if (place := pc.index(users, key).as_py()) >= 0]
    table = pq.read_table(folder / LOG_FILE, filters=[(USER, "in", places)], use_threads=False) if places else None
    ids = ids_of(folder)
    if table is None or ids is None:
        return
    titles = _titles(workspace)
    for row in table.to_pylist():
        item = ids[row.pop(ITEM)].as_py()
        row.pop(USER)
        when = row.pop(TIMESTAMP)
        said = {"time": datetime.fromtimestamp(when, UTC).isoformat() if when else None, ITEM_ID: item}
        yield said | {TITLE: titles.get(item)} | row


def _titles(workspace: Workspace) -> dict[str, str]:
    folder = workspace["catalogue"].current
    if folder is None or TITLE not in pq.read_schema(folder / "items.parquet").names:
        return {}
    table = pq.read_table(folder / "items.parquet", columns=[ITEM_ID, TITLE], use_threads=False)
    return dict(zip(table[ITEM_ID].to_pylist(), table[TITLE].to_pylist(), strict=True))


def _events(workspace: Workspace, people: Sequence[Person]) -> Iterator[dict[str, Any]]:
    """Events of the user and of sessions that are theirs, each once."""
    seen: set[int] = set()
    with opened(workspace) as log:
        tables = () if log is None else chain.from_iterable(log.in_time(of=person) for person in people)
        for row in chain.from_iterable(table.to_pylist() for table in tables):
            if row["seq"] not in seen:
                seen.add(row["seq"])
                yield {name: value for name, value in _plain(row).items() if value is not None}


def _vectors(workspace: Workspace, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    for version in workspace["generations"].versions():
        if not (version / "users.sqlite").exists():
            continue
        with UserStore(version / "users.sqlite") as store:
            for user in filter(None, map(store.keyed, keys)):
                yield {
                    "what": "vector of taste",
                    "numbers": len(user.vector),
                    "more": f"{len(user.sparse.indices)} weights of items that were taken",
                    "history": f"{len(user.history)} items with their times",
                    "attributes": dict(user.attributes),
                    "where": f"generation {version.name}",
                }


def _factors(workspace: Workspace, rows: dict[Path, int]) -> Iterator[dict[str, Any]]:
    folder, log = workspace["als"].current, workspace["interactions"].current
    if folder is not None and log in rows:
        users = mapped(folder / "factors.safetensors").get("users", ())
        if rows[log] < len(users):
            numbers = int(np.shape(users)[1])
            yield {"what": "factors of who takes what", "numbers": numbers, "where": f"cf {folder.name}"}


def _experiments(workspace: Workspace, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    with ExperimentStore(workspace) as store:
        for one in store.all():
            name = one.experiment.name
            theirs = pc.field("unit").isin(pa.array(keys, pa.string()))
            for row in store.units(name).filter(theirs).to_pylist():
                row |= {"first": _moment(row["first"]), "triggered": row["triggered"] and _moment(row["triggered"])}
                yield {"experiment": name, **row}
            for row in store.lists(name).filter(theirs).to_pylist():
                yield {"experiment": name, **row, "at": _moment(row["at"])}


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON holds it."""
    return {
        name: value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)
        for name, value in row.items()
    }
