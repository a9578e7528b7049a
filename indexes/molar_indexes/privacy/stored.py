"""Everything that is stored on one person, in an order and words that they can read (GDPR, articles 15 and 20)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_indexes.users import UserStore
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, TITLE, USER_ID
from molar_retrieval.data.event_log_reader import Person, opened
from molar_retrieval.data.interaction_reader import log_columns, user_column
from molar_retrieval.data.interactions import ITEM, LOG_FILE, USER, USERS_FILE
from molar_retrieval.data.schema import CatalogueConfig, find_table
from molar_retrieval.errors import MolarError
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.id_scan import IdPatterns, Name, is_vague
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName, session_key, user_key
from molar_retrieval.ranking.index_protocol import point_id
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.tensors import mapped

_ITEMS = "items.parquet"
POINT = "their point id"
_BATCH = 65_536
_UNKNOWN = (
    "the systems that the catalogue's files come from: the shop's database, its web server's logs",
    "backups, and snapshots of disks and of database servers",
    "files that were written elsewhere, as lists of `molar recommend`, exports and reports; `molar privacy scan --also`"
    " looks into them",
    "what models have learnt from many people together: it is no record of anybody, and cannot be shown for one",
)


@dataclass
class KnownPerson:
    """What is gathered of one person.

    Attributes:
        user_id: Who it is, by the id that the shop gives them.
        name: What the workspace calls them.
        keys: Keys under which they are stored: of the user, of sessions that are identified as the user.
        sessions: Those sessions.
        rows: Their row by the folder of a log.
        evaluations: Folders of evaluations whose splits have them.
        longer: Keys of other people that contain one of theirs.
        items: Whether an item has the same id.
        unread: What could not be read, as sentences.
        notes: What they are not recognised by, as sentences.
    """

    user_id: str
    name: StoredName
    keys: list[str]
    sessions: list[StoredName]
    rows: dict[Path, int] = field(default_factory=dict)
    evaluations: set[Path] = field(default_factory=set)
    longer: set[str] = field(default_factory=set)
    items: bool = False
    unread: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def id_patterns(workspace: Workspace, id_: str, *, session: bool = False) -> tuple[IdPatterns, KnownPerson]:
    """The ids that somebody is recognised by, as far as the workspace still knows them, and what that was made of.

    ``session``: The id is that of a session by which somebody anonymous is known.
    """
    known = _called(workspace, id_, session)
    if workspace.root.is_dir():
        for path in sorted(workspace.root.rglob(LOG_FILE)):
            if (path.parent / USERS_FILE).exists():
                _gather(known, path.parent, _of_log)
        for path in sorted(workspace.root.rglob("splits/*/*.parquet")):
            _gather(known, path, _of_split)
        for path in sorted(workspace.root.rglob(_ITEMS)):
            _gather(known, path, _of_items)
    return IdPatterns(_names(known)), known


def _called(workspace: Workspace, id_: str, session: bool) -> KnownPerson:
    names = Pseudonymiser.of(workspace.root)
    if session:
        name = names.session(id_)
        return KnownPerson(id_, name, [session_key(name)], [])
    name = names.user(id_)
    with opened(workspace) as events:
        sessions = [] if events is None else [one for one, who in events.identified().items() if who == name]
    return KnownPerson(id_, name, [user_key(name), *map(session_key, sessions)], sessions)


def _names(known: KnownPerson) -> list[Name]:
    vague = is_vague(known.user_id) or known.items
    longer = sorted(known.longer)
    if vague:
        known.notes.append(
            "the id is short, or an item's as well: it counts where ids of people stand; elsewhere it is a doubt"
        )
    names = [Name(known.user_id, "their id", vague, longer)]
    if known.name != known.user_id:
        names.append(Name(known.name, "their pseudonym"))
    names += [Name(one, "their session", is_vague(one) or known.items, longer) for one in known.sessions]
    for key in known.keys if not known.items else ():  # the item's point has the same
        point = point_id(key)
        number = bytes.fromhex(point.replace("-", ""))
        names += [Name(point, POINT, packed=(number, number[::-1])), Name(number.hex(), POINT)]
    return names


def _gather(known: KnownPerson, path: Path, how: Callable[[KnownPerson, Path], None]) -> None:
    """Gather from one place; what is damaged is said, and the scan will say it too."""
    try:
        how(known, path)
    except (MolarError, pa.ArrowException, OSError, ValueError, KeyError) as error:
        known.unread.append(f"{path} cannot be read, so that nothing could be learnt from it: {error}")


def _of_log(known: KnownPerson, folder: Path) -> None:
    users = pq.read_table(folder / USERS_FILE, use_threads=False)[USER_ID].combine_chunks()
    for key in known.keys:
        inside = pc.filter(users, pc.match_substring(users, key.split(":", 1)[-1])).to_pylist()
        known.longer |= {one for one in inside if one not in known.keys}
    places = [place for key in known.keys if (place := pc.index(users, key).as_py()) >= 0]
    if places:
        known.rows[folder] = places[0]


def ids_of(folder: Path) -> pa.Array | None:
    """The item ids that the rows of a log mean: beside it, or of the catalogue that its manifest names."""
    if (folder / _ITEMS).exists():
        return pq.read_table(folder / _ITEMS, columns=[ITEM_ID], use_threads=False)[ITEM_ID].combine_chunks()
    catalogue = Manifest.read(folder).inputs.get("catalogue")
    for version in Workspace(folder.parent.parent)["catalogue"].versions():
        if Manifest.read(version).fingerprint == catalogue:
            table = pq.read_table(version / _ITEMS, columns=[ITEM_ID], use_threads=False)
            return table[ITEM_ID].combine_chunks()
    return None


def _of_split(known: KnownPerson, path: Path) -> None:
    if USER_ID not in pq.read_schema(path).names:
        return
    users = pq.read_table(path, columns=[USER_ID], use_threads=False)[USER_ID]
    if pc.any(pc.is_in(users, pa.array(known.keys, pa.string())), min_count=0).as_py():
        known.evaluations.add(path.parents[2])


def _of_items(known: KnownPerson, path: Path) -> None:
    ids = pq.read_table(path, columns=[ITEM_ID], use_threads=False)[ITEM_ID]
    known.items |= any(pc.index(ids, name).as_py() >= 0 for name in (known.user_id, *known.sessions))


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
