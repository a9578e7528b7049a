"""Shards by way of a storage: workers see none of this machine's files, and what is killed goes on.

The storage is a folder; MOLAR_TEST_S3_URL (s3://BUCKET/PREFIX, with ?endpoint_override=… of a server on loopback) names
an object store for the same tests.
"""

import os
import pickle
import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from eval_model_tasks import log_of
from pyarrow import fs
from ranking_fakes import LastFiles
from shard_jobs import SquaresJob, Stopping, shards

from molar_eval import ranking_job
from molar_eval.cases import Cases
from molar_eval.models.base import Task
from molar_eval.ranking_job import RankingJob, shards_of
from molar_retrieval.cluster.storage import OnStorage, ShardStorage, StoredJob
from molar_retrieval.cluster_settings import ClusterSettings
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.progress import Notes, Progress
from molar_retrieval.runner import InThisProcess, Runner, Shard, ShardJob

ITEMS, BLOCK = 40, 16


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return (tmp_path / "storage").as_uri()
    if "MOLAR_TEST_S3_URL" not in os.environ:
        pytest.skip("MOLAR_TEST_S3_URL names no object store")
    place, _, query = os.environ["MOLAR_TEST_S3_URL"].partition("?")
    return f"{place}/{uuid4().hex}?{query}"


class Elsewhere(Runner):
    """Somebody who gets the job in bytes, while what this machine has to read is somewhere else."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths

    def _made(
        self, job: ShardJob, missing: Sequence[Shard], progress: Progress
    ) -> Generator[tuple[Shard, Sequence[str]]]:
        for path in self.paths:
            path.rename(path.with_name(f"{path.name}.hidden"))
        try:
            with closing(InThisProcess()._made(pickle.loads(pickle.dumps(job)), missing, progress)) as made:
                yield from made
        finally:
            for path in self.paths:
                path.with_name(f"{path.name}.hidden").rename(path)


class Ranking:
    """Some cases, ranked in eight shards by what lies in a folder."""

    def __init__(self, place: Path) -> None:
        random = np.random.default_rng(3)
        log = log_of([random.integers(0, ITEMS, n).tolist() for n in random.integers(2, 25, 120)], ITEMS)
        last = log.item[log.offsets[1:] - 1]
        self.cases = Cases.single(log, np.arange(log.n_users), np.diff(log.offsets) - 1, last)
        self.task = Task(log, self.cases, np.ones(ITEMS, bool), None, "hide", place)
        self.model, self.folder = place / "model", place / "shards"
        (self.model / "deep").mkdir(parents=True)
        (self.model / "deep" / "weights").write_bytes(b"0" * 100)

    def files(self, runner: Runner, progress: Any = None) -> dict[str, bytes]:
        files = LastFiles(folder=self.model)
        job = RankingJob(self.folder, files, ITEMS, 10, "hide", 12 * BLOCK * ITEMS, "ranking")
        job.make(self.cases, self.task, runner, progress or Notes())
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def ranking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ranking:
    monkeypatch.setattr(ranking_job, "SCORES", BLOCK * ITEMS)
    return Ranking(tmp_path)


def objects(url: str) -> list[str]:
    files, place = fs.FileSystem.from_uri(url)
    found = files.get_file_info(fs.FileSelector(place, recursive=True, allow_not_found=True))
    return [one.path for one in found if one.type == fs.FileType.File]


def test_files_are_the_same_by_way_of_a_storage(ranking: Ranking, url: str) -> None:
    alone = ranking.files(InThisProcess())
    assert len(alone) == 9
    for shard in range(8):
        (ranking.folder / f"{shard:08}.safetensors").unlink()
    workers = Elsewhere(ranking.model, ranking.folder / "inputs.safetensors")
    assert ranking.files(OnStorage(workers, url)) == alone
    assert objects(url) == []


def test_shards_that_were_made_are_fetched_though_their_program_was_killed(ranking: Ranking, url: str) -> None:
    alone = ranking.files(InThisProcess())
    shutil.rmtree(ranking.folder)
    with pytest.raises(KeyboardInterrupt):
        ranking.files(OnStorage(Stopping(3), url))
    for path in ranking.folder.glob("0*.safetensors"):
        path.unlink()  # as if it had been killed before it had them
    notes = Notes()
    assert ranking.files(OnStorage(InThisProcess(), url), notes) == alone
    assert f"3 of 8 shards that are missing here lie in {url} already" in notes.notes
    assert objects(url) == []


def test_a_worker_that_is_killed_between_shards_leaves_nothing(
    ranking: Ranking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranking.files(InThisProcess())
    (here := tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    files = LastFiles(folder=ranking.model)
    job = StoredJob.of(
        RankingJob(ranking.folder, files, ITEMS, 10, "hide", 12 * BLOCK * ITEMS, "ranking"),
        (tmp_path / "storage").as_uri(),
    )
    job.send()
    with job.opened() as work:
        assert list(here.iterdir()) == []
        work(shards_of(len(ranking.cases), ITEMS, 12 * BLOCK * ITEMS)[0])
        assert list(here.iterdir()) == []
    assert job.is_whole(0)


def test_what_is_not_whole_is_not_there(url: str, tmp_path: Path) -> None:
    storage, path = ShardStorage(url, "work"), tmp_path / "some"
    path.write_bytes(b"12345")
    first, second = storage.send(path), storage.send(path)
    assert first[0] != second[0]  # nobody writes over what another one has written
    assert storage.read("00000001") is None
    storage.write("00000001", {"file": first, "notes": ["a note"]})
    assert storage.read("00000001") == {"file": list(first), "notes": ["a note"]}
    storage.fetch(*first, tmp_path / "deep" / "fetched")
    assert (tmp_path / "deep" / "fetched").read_bytes() == b"12345"
    with pytest.raises(OSError, match="5 bytes instead of 6"):
        storage.fetch(first[0], 6, tmp_path / "short")
    files, place = fs.FileSystem.from_uri(url)
    with files.open_output_stream(f"{place}/work/00000001.json") as sink:
        sink.write(b'{"file": ["a')
    assert storage.read("00000001") is None
    storage.clear()
    assert objects(url) == []


def test_what_cannot_be_done_is_said(ranking: Ranking, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="squaring needs a folder that all machines see"):
        OnStorage(InThisProcess(), tmp_path.as_uri()).run(SquaresJob(tmp_path), shards(2))
    (tmp_path / "file").touch()
    nowhere = (tmp_path / "file").as_uri()
    with pytest.raises(BackendError, match=f"the storage {nowhere} does not work"):
        ranking.files(OnStorage(InThisProcess(), nowhere))


def test_a_storage_is_a_place_without_keys() -> None:
    assert ClusterSettings(storage="s3://bucket/prefix/").storage == "s3://bucket/prefix"
    for wrong in ("bucket", "/folder", "s3://key:secret@bucket", "ftp://host/folder", "s3://"):
        with pytest.raises(ValueError, match="a place such as s3://bucket/prefix is due"):
            ClusterSettings(storage=wrong)
