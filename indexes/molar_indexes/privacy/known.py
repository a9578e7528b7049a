"""The ids of a user, and where they have a place: gathered from all logs and evaluations, old ones included."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.columns import ITEM_ID, USER_ID
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.interactions import LOG_FILE, USERS_FILE
from molar_retrieval.errors import MolarError
from molar_retrieval.privacy.id_scan import IdPatterns, Name, is_vague
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, StoredName, session_key, user_key
from molar_retrieval.ranking.index_protocol import point_id
from molar_retrieval.workspace.artefacts import Manifest, Workspace

_ITEMS = "items.parquet"
POINT = "their point id"


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


def _gather(known: KnownPerson, path: Path, how: Callable[["KnownPerson", Path], None]) -> None:
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
