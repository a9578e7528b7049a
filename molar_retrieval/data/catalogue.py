"""A prepared catalogue: what the other steps read, and where its photos lie."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from molar_retrieval.columns import IMAGE, ITEM_ID, TITLE
from molar_retrieval.data.availability import Availability
from molar_retrieval.data.values import is_list
from molar_retrieval.data.variants import FILE_NAME as VARIANTS_FILE
from molar_retrieval.data.variants import ItemIds
from molar_retrieval.ids import IdMap
from molar_retrieval.workspace.artefacts import Manifest, Workspace

ITEMS_FILE = "items.parquet"


class Catalogue:
    """The clean items of a catalogue, in the order of its file: a version of the workspace's ``catalogue`` store."""

    def __init__(self, version: Path, manifest: Manifest) -> None:
        self.version = version
        self.manifest = manifest

    @classmethod
    def open(cls, version_folder: Path) -> "Catalogue":
        """Open a version of the ``catalogue`` artefact; a StaleArtefactError if its manifest is unreadable."""
        return cls(version_folder, Manifest.read(version_folder))

    def __len__(self) -> int:
        return int(self.manifest.facts["items"])

    @cached_property
    def ids(self) -> IdMap:
        """The item ids; an item's row is its place in the file, rejected rows left out."""
        return IdMap(pq.read_table(self.version / ITEMS_FILE, columns=[ITEM_ID], use_threads=False)[ITEM_ID])

    @cached_property
    def lookup(self) -> ItemIds:
        """The item ids, by which variants are found as well; its rows are those of :attr:`ids`."""
        return ItemIds.open(self.ids, self.variants_file)

    @property
    def variants_file(self) -> Path:
        """The file that maps variants to items; it exists where the catalogue has variants."""
        return self.version / VARIANTS_FILE

    def rows(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
        """The row of each id, of an item or else of a variant, whose item it is then; -1 for an unknown one."""
        return self.lookup.rows(ids)

    @property
    def folder(self) -> Path:
        """The source folder, to which the photos' paths are relative."""
        return Path(self.manifest.facts["folder"])

    @property
    def fields(self) -> dict[str, str]:
        """Payload fields that can be filtered, with their kind: ``keyword``, ``integer``, ``float`` or ``bool``."""
        return dict(self.manifest.facts["fields"])

    @property
    def payload(self) -> tuple[str, ...]:
        """All payload fields, including long texts that are for display only."""
        return tuple(self.manifest.facts["payload"])

    @property
    def attributes(self) -> tuple[str, ...]:
        """The source columns that enter the text."""
        return tuple(self.manifest.facts["attributes"])

    @property
    def attribute_fields(self) -> tuple[str, ...]:
        """The payload fields that hold these columns; one that is not kept for payload has none."""
        renamed = self.manifest.facts["renamed"]
        fields = (renamed.get(column, column) for column in self.attributes)
        return tuple(field for field in fields if field in self.payload)

    @property
    def availability(self) -> Availability:
        """From when items may be shown, by the names of the payload."""
        return Availability(**self.manifest.facts["availability"])

    @property
    def described(self) -> dict[str, Any]:
        """What :class:`molar_retrieval.data.live_events.PayloadFields` knows of the items file, as facts."""
        items, renamed = self.manifest.settings["items"], dict(self.manifest.facts["renamed"])
        written = {renamed.get(column, column) for column in items["lists"]}
        stored = pq.read_schema(self.version / ITEMS_FILE)
        lists = {f.name: items["separator"] if f.name in written else None for f in stored if is_list(f.type)}
        return {"columns": renamed if items["title"] is None else {**renamed, items["title"]: TITLE}, "lists": lists}

    @property
    def language(self) -> str | None:
        """The language of the texts: as ``catalog.toml`` says, else guessed, else None."""
        language: str | None = self.manifest.facts["language"]
        return language

    def batches(self, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Read some columns of all items, in order and in bounded memory; only the last batch is smaller than asked."""
        with pq.ParquetFile(self.version / ITEMS_FILE) as file:
            yield from file.iter_batches(size, columns=list(columns), use_threads=False)

    def columns(self, names: Iterable[str], size: int) -> Iterator[tuple[str, list[pa.Array]]]:
        """Read whole columns one after the other, in pieces of ``size`` rows; the file, and its index, is read once."""
        with pq.ParquetFile(self.version / ITEMS_FILE) as file:
            for name in names:
                yield name, [batch[name] for batch in file.iter_batches(size, columns=[name], use_threads=False)]


def photos_of(workspace: Workspace) -> Callable[[str], Path | None]:
    """From an item's id to the file of its photo, or None; the catalogue is read at the first call."""

    @cache
    def paths() -> dict[str, Path]:
        version = workspace["catalogue"].current
        if version is None:
            return {}
        folder = Catalogue.open(version).folder
        return {item_id: folder / path for item_id, path in _relative(version)}

    return lambda item_id: paths().get(item_id)


def photo_paths(workspace: Workspace) -> list[str]:
    """The paths of all photos that the live catalogue names, relative to its folder; none where there is none."""
    version = workspace["catalogue"].current
    return [] if version is None else [path for _, path in _relative(version)]


def _relative(version: Path) -> list[tuple[str, str]]:
    table = pq.read_table(version / ITEMS_FILE, columns=[ITEM_ID, IMAGE])
    known = table.filter(pc.field(IMAGE).is_valid())
    return list(zip(known[ITEM_ID].to_pylist(), known[IMAGE].to_pylist(), strict=True))
