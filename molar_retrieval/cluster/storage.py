"""Shards of a work whose workers see no folder of this machine: what they read and write lies on an object store.

An object appears when it is whole and cannot be renamed, and on a file system it appears earlier. So content is written
under a name that nobody else has, and then a small JSON says which name holds what; what that does not name, is not
there. A run that was killed finds the shards that were made, and all is removed when it has ended::

    URL/KEY/inputs.json      name of each input: its file and bytes
    URL/KEY/00000003.json    the same of a shard, and its notes
    URL/KEY/files/…          content, named by chance
"""

import json
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, Self, runtime_checkable
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from molar_retrieval import __version__, fingerprint
from molar_retrieval.durable import for_owner
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.progress import Progress
from molar_retrieval.runner import Runner, Shard, ShardJob, ShardWork, appearing

_INPUTS, _FILES = "inputs", "files"
_PIECE = 1 << 22  # bytes that are copied at a time


@runtime_checkable
class MovableJob(ShardJob, Protocol):
    """Work that can be done anywhere: what it reads is known, and read or mapped as the job is opened."""

    @property
    def reads(self) -> Mapping[str, Path]:
        """Files and folders that shards read, by the names that they have in the folder of a job that was moved."""

    def moved(self, folder: Path) -> ShardJob:
        """The same work, which reads and writes in another folder."""


class OnStorage(Runner):
    """Other workers, for which inputs and shards lie below a URL of :mod:`pyarrow.fs`: ``s3``, ``gs`` or ``file``."""

    def __init__(self, workers: Runner, url: str) -> None:
        self._workers, self._url = workers, url

    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        if not isinstance(job, MovableJob):
            raise SettingsError(
                f"{job.task} needs a folder that all machines see, and cannot be done by way of {self._url}",
                "run it with --on local, or leave [cluster] storage out and have the workspace on shared storage",
            )
        work = StoredJob.of(job, self._url)
        with _told(self._url):
            work.send()
            kept = {shard.number: notes for shard in missing if (notes := work.fetched(job, shard.number)) is not None}
        if kept:
            progress.note(f"{len(kept):,} of {len(missing):,} shards that are missing here lie in {self._url} already")
        yield from ((shard, kept[shard.number]) for shard in missing if shard.number in kept)
        if left := [shard for shard in missing if shard.number not in kept]:
            with closing(self._workers._made(work, left, progress)) as made:
                for shard, notes in made:
                    with _told(self._url):
                        if work.fetched(job, shard.number) is None:
                            raise FileNotFoundError(f"shard {shard.number} was made, and is not there")
                    yield shard, notes
        with _told(self._url):
            work.storage.clear()


@dataclass(frozen=True)
class StoredJob:
    """A job whose inputs and shards lie in a place of a storage."""

    job: MovableJob
    storage: "ShardStorage"

    @classmethod
    def of(cls, job: MovableJob, url: str) -> Self:
        """A work of the same name, inputs and molar is found again."""
        read = {name: fingerprint.of_file(path) for name, path in _files(job.reads).items()}
        return cls(job, ShardStorage(url, fingerprint.of_json([__version__, str(job.path(0)), job.task, read])))

    @property
    def task(self) -> str:
        """See :class:`ShardJob`."""
        return self.job.task

    @property
    def gpu(self) -> bool:
        """See :class:`ShardJob`."""
        return self.job.gpu

    def path(self, shard: int) -> Path:
        """Beneath a folder that every machine has: the file itself is on the storage."""
        return Path(f"/{shard:08}")

    def is_whole(self, shard: int) -> bool:
        """Whether the storage has the shard."""
        return self.storage.read(f"{shard:08}") is not None

    @contextmanager
    def opened(self) -> Iterator[ShardWork]:
        """Fetch the inputs, and open the job with them."""
        with TemporaryDirectory(prefix="molar-shards-") as folder:
            place = Path(folder)
            with _told(self.storage.url):
                inputs = self.storage.read(_INPUTS) or {}
                for name, (file, size) in inputs.items():
                    self.storage.fetch(file, size, place / name)
            moved = self.job.moved(place)
            with moved.opened() as make:
                shutil.rmtree(place)  # what is mapped stays; nobody tidies up after a worker, who is killed at the end

                def work(shard: Shard) -> Sequence[str]:
                    place.mkdir(mode=0o700)
                    try:
                        notes, path = tuple(make(shard)), moved.path(shard.number)
                        with _told(self.storage.url):
                            sent = self.storage.send(path)
                            self.storage.write(f"{shard.number:08}", {"file": sent, "notes": notes})
                    finally:
                        shutil.rmtree(place)
                    return notes

                yield work

    def send(self) -> None:
        """Send the inputs, where they are not there."""
        if self.storage.read(_INPUTS) is None:
            files = _files(self.job.reads)
            self.storage.write(_INPUTS, {name: self.storage.send(path) for name, path in files.items()})

    def fetched(self, job: ShardJob, shard: int) -> Sequence[str] | None:
        """Have a shard in its place here; returns its notes, or None where nobody has made it."""
        if (said := self.storage.read(f"{shard:08}")) is None:
            return None
        file, size = said["file"]
        with appearing(job.path(shard)) as partial:
            self.storage.fetch(file, size, partial)
            for_owner(partial)
        return tuple(said["notes"])


@dataclass(frozen=True)
class ShardStorage:
    """The place of one work below a URL."""

    url: str
    key: str

    def send(self, path: Path) -> tuple[str, int]:
        """Write a file under a new name; returns that and its size in bytes."""
        name, size = uuid4().hex, path.stat().st_size
        files, place = self._place
        files.create_dir(f"{place}/{_FILES}", recursive=True)
        with path.open("rb") as source, files.open_output_stream(f"{place}/{_FILES}/{name}") as sink:
            while piece := source.read(_PIECE):
                sink.write(piece)
        return name, size

    def fetch(self, name: str, size: int, target: Path) -> None:
        """Read a file; OSError if it has another size."""
        files, place = self._place
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.open_input_stream(f"{place}/{_FILES}/{name}") as source, target.open("wb") as sink:
            while piece := source.read(_PIECE):
                sink.write(piece)
        if target.stat().st_size != size:
            raise OSError(f"{name} has {target.stat().st_size:,} bytes instead of {size:,}")

    def write(self, name: str, said: Mapping[str, Any]) -> None:
        """Say what is there, once it is."""
        files, place = self._place
        with files.open_output_stream(f"{place}/{name}.json") as sink:
            sink.write(json.dumps(said).encode())

    def read(self, name: str) -> dict[str, Any] | None:
        """What was said; None where nothing was, or not to its end."""
        files, place = self._place
        try:
            with files.open_input_stream(f"{place}/{name}.json") as source:
                found: dict[str, Any] = json.loads(source.read())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return found

    def clear(self) -> None:
        """Remove all of the work."""
        files, place = self._place
        files.delete_dir(place)

    @cached_property
    def _place(self) -> tuple[fs.FileSystem, str]:
        files, path = fs.FileSystem.from_uri(self.url)
        return files, f"{path.rstrip('/')}/{self.key}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.key)


def _files(reads: Mapping[str, Path]) -> dict[str, Path]:
    """All files of what is read, by name."""
    found: dict[str, Path] = {}
    for name, path in reads.items():
        if path.is_dir():
            found |= {f"{name}/{one.relative_to(path).as_posix()}": one for one in path.rglob("*") if one.is_file()}
        else:
            found[name] = path
    return dict(sorted(found.items()))


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Say of which storage an error is."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise BackendError(
            f"the storage {url} does not work: {str(error).strip().splitlines()[0]}",
            "see [cluster] storage, and the keys that this machine and the workers have for it; what is done is kept",
        ) from error
