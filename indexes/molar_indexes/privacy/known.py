"""By what a person is recognised: gathered from all logs, factors and generations of a workspace, old ones included."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_indexes.users import UserStore
from molar_retrieval.columns import ITEM_ID, USER_ID
from molar_retrieval.errors import MolarError
from molar_retrieval.events.snapshot import opened
from molar_retrieval.interactions.log import ITEM, LOG_FILE, USER, USERS_FILE
from molar_retrieval.interactions.pseudonyms import Pseudonymiser
from molar_retrieval.interactions.users import StoredName, session_key, user_key
from molar_retrieval.manifest import Manifest
from molar_retrieval.point_ids import point_id
from molar_retrieval.privacy.needles import LENGTH, CasesOfTest, Name, Needles, is_vague
from molar_retrieval.privacy.tensors import SPLITS
from molar_retrieval.privacy.windows import ByteWindows, own_stretches, stretches
from molar_retrieval.tensors import mapped
from molar_retrieval.workspace import Workspace

_USERS = "users.sqlite"
_FACTORS = "factors.safetensors"
_ITEMS = "items.parquet"
_TEST = "test-"
HISTORY, VECTOR, FACTORS, POINT = "their history, as rows", "their vector", "their ALS factors", "their point id"


@dataclass
class KnownPerson:
    """What is gathered of one person.

    Attributes:
        user_id: Who it is, by the id that the shop gives them.
        name: What the workspace calls them.
        keys: Keys under which they are stored: of the user, of sessions that are identified as the user.
        sessions: Those sessions.
        rows: Their row by the folder of a log.
        windows: Bytes that are theirs alone, with what each is.
        stretches: Stretches of their history as item rows.
        shared: Those that others have too.
        sequences: Stretches of their history as item ids.
        tested: Test cases of theirs, by the folder of an evaluation whose splits have them.
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
    windows: dict[bytes, str] = field(default_factory=dict)
    shared: set[tuple[int, ...]] = field(default_factory=set)
    stretches: set[tuple[int, ...]] = field(default_factory=set)
    sequences: set[tuple[str, ...]] = field(default_factory=set)
    tested: dict[Path, list[CasesOfTest]] = field(default_factory=dict)
    longer: set[str] = field(default_factory=set)
    items: bool = False
    unread: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def needles_of(workspace: Workspace, id_: str, *, session: bool = False) -> tuple[Needles, KnownPerson]:
    """What somebody is recognised by, as far as the workspace still knows them, and what that was made of.

    ``session``: The id is that of a session by which somebody anonymous is known.
    """
    known = _called(workspace, id_, session)
    if workspace.root.is_dir():
        for path in sorted(workspace.root.rglob(LOG_FILE)):
            if (path.parent / USERS_FILE).exists():
                _gather(known, path.parent, _of_log)
        for path in sorted(workspace.root.rglob(_FACTORS)):
            _gather(known, path, _of_factors)
        for path in sorted(workspace.root.rglob(_USERS)):
            _gather(known, path, _of_generation)
        for path in sorted(workspace.root.rglob(f"{SPLITS}/*/*.parquet")):
            _gather(known, path, _of_split)
        for path in sorted(workspace.root.rglob(_ITEMS)):
            _gather(known, path, _of_items)
    for one in known.stretches - known.shared:
        for size in ("<i4", "<i8"):
            known.windows[np.array(one, size).tobytes()] = HISTORY
    for key in known.keys if not known.items else ():  # the item's point has the same
        number = _uuid(key)
        known.windows |= {number: POINT, number[::-1]: POINT}
    if not (known.stretches or VECTOR in known.windows.values()):
        known.notes.append("the workspace has no history and no vector of this person, so that none was looked for")
    sequences = frozenset(known.sequences)
    return Needles(_names(known), ByteWindows(known.windows), sequences, known.rows, known.tested), known


def _called(workspace: Workspace, id_: str, session: bool) -> KnownPerson:
    names = Pseudonymiser.of(workspace.root)
    if session:
        name = names.session(id_)
        return KnownPerson(id_, name, [session_key(name)], [])
    name = names.user(id_)
    with opened(workspace) as events:
        sessions = [] if events is None else [one for one, who in events.identified().items() if who == name]
    return KnownPerson(id_, name, [user_key(name), *map(session_key, sessions)], sessions)


def _uuid(key: str) -> bytes:
    return bytes.fromhex(point_id(key).replace("-", ""))


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
    points = [point_id(key) for key in known.keys] if not known.items else []
    return names + [Name(text, POINT) for one in points for text in (one, one.replace("-", ""))]


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
    if not places:
        return
    known.rows[folder] = places[0]
    table = pq.read_table(folder / LOG_FILE, columns=[USER, ITEM], use_threads=False)
    counts = np.bincount(table[USER].to_numpy(), minlength=len(users))
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    items = table[ITEM].to_numpy()
    ids = ids_of(folder)
    for place in places:
        own, shared = own_stretches(items, offsets, place, LENGTH)
        known.stretches |= set(map(tuple, own.tolist()))
        known.shared |= set(map(tuple, shared.tolist()))
        if ids is not None:
            named = [[ids[row].as_py() for row in one] for one in own.tolist()]
            known.sequences |= set(map(tuple, named))


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


def _of_factors(known: KnownPerson, path: Path) -> None:
    """Factors have one row per person of a log; a log that is gone had those of one that is there, or as many."""
    users = mapped(path).get("users", ())  # they are dropped once the alignment is trained
    for folder, row in known.rows.items():
        log = pq.ParquetFile(folder / USERS_FILE)
        if path.parents[2] in folder.parents and log.metadata.num_rows == len(users):
            own = np.asarray(users[row], np.float32)
            if (np.asarray(users) == own).all(axis=1).sum() == 1:  # people who took the same have the same
                known.windows |= dict.fromkeys(stretches(own), FACTORS)


def _of_generation(known: KnownPerson, path: Path) -> None:
    with UserStore(path) as store:
        for key in known.keys:
            user = store.keyed(key)
            if user is None:
                continue
            vector = np.asarray(user.vector, np.float32)
            if not _is_shared(store, key, vector):
                known.windows |= dict.fromkeys(stretches(vector), VECTOR)


def _is_shared(store: UserStore, key: str, vector: npt.NDArray[np.float32]) -> bool:
    """Whether somebody else has the same vector, as people do who took the same."""
    return any(
        user.user_id != key and np.array_equal(np.asarray(user.vector, np.float32), vector)
        for batch in store.batches()
        for user in batch
    )


def _of_split(known: KnownPerson, path: Path) -> None:
    if USER_ID not in pq.read_schema(path).names:
        return
    users = pq.read_table(path, columns=[USER_ID], use_threads=False)[USER_ID]
    theirs = np.flatnonzero(pc.is_in(users, pa.array(known.keys, pa.string())).to_numpy()).tolist()
    if theirs:
        tests = known.tested.setdefault(path.parents[2], [])
        if path.stem.startswith(_TEST):
            tests.append(CasesOfTest(path.stem.removeprefix(_TEST), len(users), theirs))


def _of_items(known: KnownPerson, path: Path) -> None:
    ids = pq.read_table(path, columns=[ITEM_ID], use_threads=False)[ITEM_ID]
    known.items |= any(pc.index(ids, name).as_py() >= 0 for name in (known.user_id, *known.sessions))
