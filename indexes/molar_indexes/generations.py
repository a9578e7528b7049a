"""Generations: immutable, complete indexes with their users; one of them is live.

A generation is a version folder of ``workspace["generations"]``::

    20260313-101530-3f2a9c1b/manifest.json    inputs, settings, backend, spec, counts
    20260313-101530-3f2a9c1b/files.json       sizes and digests
    20260313-101530-3f2a9c1b/index/           the backend's files
    20260313-101530-3f2a9c1b/table.safetensors   what ranking reads of the items
    20260313-101530-3f2a9c1b/users.sqlite     vectors and history of each user, with its times
    20260313-101530-3f2a9c1b/popular.json     the most popular items with their counts
    20260313-101530-3f2a9c1b/variants.parquet    the item of each variant, where the catalogue has variants
    20260313-101530-3f2a9c1b/encoder/         the alignment that reads sessions of new people

All that answers read is in there, so every answer is of one generation, whatever is live meanwhile. An open generation
holds its folder, see :mod:`molar_retrieval.workspace.files`: it is pruned only when nobody has it open.
"""

import json
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from molar_indexes.backends import build_index, open_index
from molar_indexes.users import UserRecord, Users, UserStore, write_users
from molar_retrieval import columns
from molar_retrieval.data.availability import ALWAYS
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.index_protocol import Index, IndexItem, IndexSpec, Spans
from molar_retrieval.ranking.objectives import NEXT_ITEM, Objectives, Slots, slots_of
from molar_retrieval.ranking.query import Exploration
from molar_retrieval.workspace import artefacts, fingerprint
from molar_retrieval.workspace.artefacts import PRIVATE, ArtefactStore, Manifest, Workspace
from molar_retrieval.workspace.config_files import ObjectiveName
from molar_retrieval.workspace.files import link_or_copy, read_lock, size_on_disk, write_atomically

if TYPE_CHECKING:
    from molar_indexes.item_store import Extras, OpenItemStore
    from molar_retrieval.data.variants import VariantFile

_FOLDER = "encoder"
_FILES = ("manifest.json", "model.safetensors")  # what :func:`molar_retrieval.models.store.open_model` reads
KIND = "generations"
FORMAT = 7
"""Raised with every change of what a generation holds, so that nothing older is opened or passes for up to date."""
INDEX, TABLE, USERS, POPULAR = "index", "table.safetensors", "users.sqlite", "popular.json"
VARIANTS = "variants.parquet"
"""Names in a generation's folder."""
_MOST_POPULAR = 1000
_ROLLED_BACK = "rolled_back.json"


def carry(alignment: Path, generation: Path) -> None:
    """Put an alignment into a generation's folder, which takes no room where the file system has links."""
    own = generation / _FOLDER
    own.mkdir()
    for name in _FILES:
        try:
            (own / name).hardlink_to(alignment / name)
        except OSError:  # another disk, or one without links
            shutil.copyfile(alignment / name, own / name)


def carried(generation: Path) -> Path | None:
    """The alignment in a generation's folder; None where it was published before generations carried one."""
    own = generation / _FOLDER
    return own if own.is_dir() else None


def has_noise(generation: Path) -> bool:
    """Whether the alignment in a generation's folder was made of statistics with noise."""
    own = carried(generation)
    return own is not None and PRIVATE in Manifest.read(own).facts


def preset_of(generation: Path) -> str | None:
    """The preset with which the alignment in a generation's folder was trained; None where that is not told."""
    try:
        told = json.loads((generation / _FOLDER / "manifest.json").read_text("utf-8"))["settings"]["align"]["preset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return told if isinstance(told, str) else None


@dataclass(frozen=True)
class Generation:
    """An open generation; a context manager."""

    folder: Path
    manifest: Manifest
    backend: str
    index: Index
    users: Users
    popular: Sequence[tuple[int, int]]  # item rows and their counts in the training log, most popular first
    parts: Spans  # of each addend of a score within the vectors ``aligned`` and ``cold_start``
    sparse_parts: Spans = field(default_factory=dict)  # the same within the vector ``neighbors``
    cold_items: int = 0  # items without training interactions
    slots: Slots = ()  # of the first ten of an answer, which they get
    exploration: Exploration | None = None  # how new items are tried instead; None: they are not
    objectives: Objectives = field(
        default_factory=dict
    )  # what vectors of users are multiplied by, see molar_retrieval.ranking.objectives
    default_objective: ObjectiveName = "next_item"  # what is asked for where nothing is said
    notes: Sequence[str] = ()  # what whoever gets an answer should know about where it comes from
    held: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The generation's id."""
        return self.folder.name

    @cached_property
    def table(self) -> "OpenItemStore":
        """What ranking reads of the items; importing it takes NumPy. StaleArtefactError if it is missing or damaged."""
        from molar_indexes.item_store import open_table

        return open_table(self.folder / TABLE, self.parts, self.sparse_parts, self.manifest.facts)

    def rows(self, item_ids: Sequence[str]) -> list[int | None]:
        """The row of each id, of an item or else of a variant, whose item it is then; None for an unknown one."""
        rows = self.index.rows(item_ids)
        unknown = [place for place, row in enumerate(rows) if row is None]
        if unknown and self._variants is not None:
            items = self._variants.items([item_ids[place] for place in unknown])
            known = [item_id for item_id in items if item_id is not None]
            found = dict(zip(known, self.index.rows(known), strict=True)) if known else {}
            for place, item_id in zip(unknown, items, strict=True):
                rows[place] = found.get(item_id or "")
        return rows

    def item_ids(self, ids: Sequence[str]) -> tuple[str, ...]:
        """The ids with each variant's replaced by that of its item."""
        if self._variants is None:
            return tuple(ids)
        return tuple(item_id or one for one, item_id in zip(ids, self._variants.items(ids), strict=True))

    @cached_property
    def _variants(self) -> "VariantFile | None":
        if not (self.folder / VARIANTS).exists():
            return None
        from molar_retrieval.data.variants import VariantFile  # brings Arrow

        return VariantFile(self.folder / VARIANTS)

    @property
    def spec(self) -> IndexSpec:
        """What the index holds."""
        return self.index.spec

    def always_shows(self, row: int) -> bool:
        """Whether nothing that was known of the item at a row keeps it out at any time."""
        shown_from = self.table.shown_from
        return shown_from is None or bool(shown_from[row] == ALWAYS)

    def close(self) -> None:
        """Release the files."""
        self.index.close()
        self.users.close()
        self.held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class GenerationInfo:
    """One line of the list of generations.

    Attributes:
        name: The generation's id.
        live: Whether queries use it.
        backend: The kind of its index.
        items: How many items it holds.
        users: How many users it holds.
        created: When it was made, in UTC.
        problem: Why it cannot be used, or None.
        graphs: How the vectors that have a graph are searched, and what it finds (``publish_check.Reach``).
        bytes: What its files take on the disk.
        inputs: Fingerprints of the artefacts that it was made from, by kind.
        events: The last event that it knows, by the kind of what it was made from; empty where there were none.
    """

    name: str
    live: bool
    backend: str = ""
    items: int = 0
    users: int = 0
    created: str = ""
    problem: str | None = None
    graphs: Mapping[str, Any] = field(default_factory=dict)
    bytes: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The same as a JSON-able mapping."""
        return asdict(self)


OpenIndex = Callable[[Path, str, IndexSpec], Index]
"""Opens the index of a generation's folder, by its backend and what it holds."""


def open_own_index(folder: Path, backend: str, spec: IndexSpec) -> Index:
    """The index in a generation's folder."""
    return open_index(folder / INDEX, backend, spec)


def open_own_users(folder: Path) -> UserStore:
    """The users in a generation's folder."""
    return UserStore(folder / USERS)


def open_generation(
    workspace: Workspace, name: str | None = None, *, indexed: OpenIndex = open_own_index
) -> Generation:
    """Open the live generation, or the one called ``name``; ``indexed`` opens its index.

    MissingArtefactError if there is none, StaleArtefactError if it is damaged.
    """
    store = workspace[KIND]
    while True:
        folder = _named(store, name) if name else store.require()[0]
        try:
            return _open(folder, indexed)
        except StaleArtefactError:
            # Publishing may have pruned the folder since its name was read; then another one is live.
            if name or store.current == folder:
                raise


def _named(store: ArtefactStore, name: str) -> Path:
    folder = store.root / name
    if folder not in store.versions():
        known = ", ".join(f.name for f in store.versions())
        raise MissingArtefactError(
            f"there is no generation {name!r}", f"there are: {known}" if known else "run `molar align` first"
        )
    return folder


def _open(folder: Path, indexed: OpenIndex = open_own_index) -> Generation:
    with ExitStack() as opened:  # closes what is open where the rest fails
        held = read_lock(folder)
        opened.callback(held.close)
        manifest = Manifest.read(folder)
        if problems := artefacts.check_inventory(folder):
            raise StaleArtefactError(
                f"generation {folder.name} is damaged: {problems[0]}",
                "run `molar index rollback` for the one before, or `molar align` to publish a new one",
            )
        facts = manifest.facts
        if facts.get("format") != FORMAT:
            raise StaleArtefactError(
                f"generation {folder.name} was published by another version of molar",
                "run `molar align` to publish a new one",
            )
        try:
            spec = IndexSpec(**{**facts["spec"], "sparse": tuple(facts["spec"].get("sparse", ()))})
            popular = [(row, count) for row, count in json.loads((folder / POPULAR).read_text("utf-8"))]
            spans = _spans(facts["parts"]), _spans(facts.get("sparse_parts", {}))
            cold = int(facts.get("cold_start", 0)), slots_of(facts)
            plan = facts.get("exploration")
            exploration = None if plan is None else Exploration(slots_of(plan), float(plan["scale"]))
            objectives = {
                name: {part: float(f) for part, f in own.items()} for name, own in facts.get("objectives", {}).items()
            }
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise StaleArtefactError(
                f"the manifest of generation {folder.name} is damaged: {error!r}",
                "run `molar align` to publish a new one",
            ) from error
        users = open_own_users(folder)
        opened.callback(users.close)
        index = indexed(folder, facts["backend"], spec)
        opened.pop_all()
        about = folder, manifest, facts["backend"], index, users, popular
        return Generation(
            *about, *spans, *cold, exploration, objectives, facts.get("default_objective", "next_item"), held=held
        )


def _spans(facts: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, int]]:
    return {name: (start, stop) for name, (start, stop) in facts.items()}


def publish(
    workspace: Workspace,
    *,
    backend: str,
    spec: IndexSpec,
    items: Iterable[IndexItem],
    users: Iterable[UserRecord],
    popular: Sequence[tuple[int, int]],
    inputs: Mapping[str, str],
    parts: Spans | None = None,
    sparse_parts: Spans | None = None,
    slots: Slots = (),
    extras: "Extras | None" = None,
    encoder: Path | None = None,
    variants: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    keep: int = 2,
    activate: bool = True,
    confirm: Callable[[], None] = lambda: None,
    unfinished: Collection[Path] = (),
    progress: Progress = SILENT,
) -> Generation:
    """Build a generation, prove it, make it the live one and open it; readers see the old one until it is complete.

    Without ``activate`` the live one stays, if there is one, until another is made so by :func:`rollback`.

    The workspace's ``generations`` are locked meanwhile. ``spec`` has a vector ``aligned``; items come in ascending
    order of rows 0, 1, …, each user once. ``popular`` are item rows with their counts, most popular first, of which
    1000 are kept; ``parts``, ``sparse_parts`` and ``places`` are those of :class:`Generation`, ``inputs`` fingerprints
    by kind of what it was made from; ``extras`` is what the table holds beside the items' vectors, ``variants`` says of
    which item each variant is, and ``encoder`` is the alignment by which sessions are read, without which they cannot
    be. So many older generations as ``keep`` says
    stay. ``confirm`` is called before it becomes the live one, and raises if its inputs are not what they were.
    ``unfinished`` are folders of the store in which earlier runs left what items or users are made of.

    Raises:
        DataError: If the items or users do not fit, or another process is publishing.
        BackendError: If the index does not give back what was put in.
    """
    from molar_indexes.item_store import Extras, written
    from molar_indexes.publish_check import Proof
    from molar_retrieval.ranking.item_store import ItemStore
    from molar_retrieval.workspace.tensors import mapped

    def built(folder: Path) -> dict[str, Any]:
        if encoder is not None:
            carry(encoder, folder)
        carry_variants(variants, folder)
        proof, beside = Proof(spec), extras or Extras()
        table = written(folder / TABLE, spec, proof.watch(items), beside)
        build_index(folder / INDEX, backend, spec, table, progress)
        people, dim = proof.watch_users(users), spec.dims[columns.ALIGNED]
        count = write_users(folder / USERS, people, dim=dim, items=proof.rows, progress=progress)
        counts = [[int(row), int(times)] for row, times in popular[:_MOST_POPULAR]]
        (folder / POPULAR).write_text(json.dumps(counts), "utf-8")
        known: dict[str, Any] = {"items": proof.items, "cold_start": proof.cold_items, "users": count}
        store = ItemStore.from_tensors(mapped(folder / TABLE), parts or {}, sparse_parts or {})
        store = store.for_objective((facts or {}).get("objectives", {}).get(NEXT_ITEM.name, {}))
        known |= proof.check(folder / INDEX, folder / USERS, store, backend, progress)
        known |= {"format": FORMAT, "backend": backend, "slots": list(slots), **beside.described()}
        known |= {"parts": dict(parts or {}), "sparse_parts": dict(sparse_parts or {})}
        return {**(facts or {}), **known}

    return publish_made(
        workspace, built, inputs=inputs, settings=settings, keep=keep, activate=activate, confirm=confirm,
        unfinished=unfinished,
    )  # fmt: skip


def carry_variants(variants: Path | None, generation: Path) -> None:
    """Put a catalogue's file of variants into a generation's folder, where there is one."""
    if variants is not None and variants.exists():
        link_or_copy(variants, generation / VARIANTS)


def publish_made(
    workspace: Workspace,
    make: Callable[[Path], dict[str, Any]],
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any] | None = None,
    keep: int = 2,
    activate: bool = True,
    confirm: Callable[[], None] = lambda: None,
    unfinished: Collection[Path] = (),
) -> Generation:
    """Publish what ``make`` fills an empty folder with; it returns the manifest's facts. Others as of :func:`publish`.

    Generations that arms of running experiments show stay beside those that are kept.

    Raises:
        DataError: If another process is publishing.
    """
    from molar_retrieval.experiments.store import ExperimentStore
    from molar_retrieval.workspace.resources import library_versions

    with workspace.lock(KIND):
        store = workspace[KIND]
        for left in {*store.partials()} - {*unfinished}:
            shutil.rmtree(left, ignore_errors=True)
        settings = dict(settings or {})
        digest = fingerprint.of_json([dict(inputs), settings, time.time_ns()])[:8]
        folder = store.partial(f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{digest}")
        try:
            facts = make(folder)
            name = folder.name.removesuffix(folder.suffix)
            libraries = library_versions("numpy", "qdrant-edge-py")
            manifest = Manifest(KIND, name, dict(inputs), settings, facts, libraries)
            confirm()
            with ExperimentStore(workspace) as experiments:
                spare = [store.root / name for name in experiments.generations()]
            final = store.publish(folder, manifest, keep=keep, protect=spare, live=activate or store.current is None)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return _open(final)


def by_age(store: ArtefactStore) -> list[Path]:
    """All generations, oldest first; one whose number cannot be read is where the stamp in its name puts it."""
    order: list[Path] = []
    damaged = []
    for folder in store.versions():
        try:
            Manifest.read(folder)
            order.append(folder)
        except StaleArtefactError:
            damaged.append(folder)
    for folder in damaged:
        order.insert(sum(other.name[:15] < folder.name[:15] for other in order), folder)
    return order


def list_generations(workspace: Workspace) -> list[GenerationInfo]:
    """All generations, oldest first; damaged ones say so."""
    store, found = workspace[KIND], []
    for folder in by_age(store):
        info = GenerationInfo(folder.name, folder == store.current)
        try:
            manifest = Manifest.read(folder)
            known: dict[str, Any] = {name: manifest.facts[name] for name in ("backend", "items", "users")}
            known |= {name: manifest.facts.get(name, {}) for name in ("graphs", "events")}
            known |= {"created": manifest.created, "inputs": dict(manifest.inputs)}
            info = replace(info, **known, bytes=size_on_disk(folder))
        except (StaleArtefactError, KeyError) as error:
            info = replace(info, problem=str(error))
        found.append(info)
    return found


def generation_before(workspace: Workspace, name: str) -> str:
    """The generation that was made before another one; MissingArtefactError if there is none."""
    known = [folder.name for folder in by_age(workspace[KIND])]
    older = known[: known.index(name)] if name in known else []
    if not older:
        raise MissingArtefactError(
            f"there is no generation before {name}", "run `molar index list` to see which there are"
        )
    return older[-1]


@dataclass(frozen=True)
class RolledBack:
    """A rollback that holds: the generation that was live before it, and when it was, in ISO 8601."""

    former: str
    at: str


def rolled_back(workspace: Workspace) -> RolledBack | None:
    """The rollback by which the live generation is live; None: it is by publication, or nobody has written it down."""
    store = workspace[KIND]
    try:
        told = json.loads((store.root / _ROLLED_BACK).read_text("utf-8"))
        found = RolledBack(str(told["from"]), str(told["at"]))
        live = store.current
        return found if live is not None and told["to"] == live.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def rollback(workspace: Workspace, name: str | None = None) -> GenerationInfo:
    """Make another generation the live one: ``name``, or the one before the live one.

    Raises:
        MissingArtefactError: If there is none, or none by this name.
        StaleArtefactError: If that one is damaged; the live one stays.
    """
    with workspace.lock(KIND):
        store = workspace[KIND]
        name = name or generation_before(workspace, store.require()[0].name)
        open_generation(workspace, name).close()
        former, order = store.current, [folder.name for folder in by_age(store)]
        if former is not None and order.index(name) < order.index(former.name):
            told = {"to": name, "from": former.name, "at": datetime.now(UTC).isoformat(timespec="seconds")}
            write_atomically(store.root / _ROLLED_BACK, json.dumps(told) + "\n")
        store.switch(name)
    return next(line for line in list_generations(workspace) if line.name == name)
