"""Vectors of users in shards: whoever makes them, the users of a generation are the same bytes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from copies import copy_workspace
from shard_jobs import Killing, Stopping

from molar_indexes import rebuild
from molar_indexes import rebuild as indexes_rebuild
from molar_indexes.generations import USERS
from molar_indexes.rebuild import UserVectorsJob
from molar_indexes.refresh import publish_generation
from molar_indexes.users import UserStore
from molar_retrieval.models.als import open_log
from molar_retrieval.progress import Notes
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import ProcessRunner, Runner, SerialRunner
from molar_retrieval.workspace.settings import IndexSettings


@pytest.fixture
def workspace(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A shop without a generation, whose people are four shards."""
    monkeypatch.setattr(indexes_rebuild, "SHARD", 48)
    monkeypatch.setattr(rebuild, "SHARD", 48)
    copy_workspace(trained.workspace, tmp_path / ".molar", ignore=shutil.ignore_patterns("generations"))
    return Workspace.open(tmp_path / ".molar")


def published(workspace: Workspace, runner: Runner | None, progress: Any = None) -> Path:
    with publish_generation(workspace, IndexSettings(keep=0), progress or Notes(), runner=runner) as generation:
        return generation.folder


def test_an_interrupted_publication_goes_on_and_gives_the_same_users(workspace: Workspace) -> None:
    plain = published(workspace, None)
    before = [user.vector for user in UserStore(plain / USERS).between(0, 160)]
    shutil.rmtree(workspace["generations"].root)
    whole = (published(workspace, SerialRunner()) / USERS).read_bytes()
    shutil.rmtree(workspace["generations"].root)
    with pytest.raises(KeyboardInterrupt):
        published(workspace, Stopping(3))
    notes = Notes()
    folder = published(workspace, SerialRunner(), notes)
    assert "going on with an interrupted run: 3 of 4 shards are there" in notes.notes
    assert (folder / USERS).read_bytes() == whole
    with UserStore(folder / USERS) as users:
        np.testing.assert_allclose([user.vector for user in users.between(0, 160)], before, atol=2e-3)
    assert not workspace["generations"].partials()


def test_processes_make_the_same_files_though_one_is_killed(workspace: Workspace, tmp_path: Path) -> None:
    log, alignment, made = open_log(workspace), workspace["alignment"].require(), []
    for runner in (SerialRunner(), Killing(ProcessRunner(2), tmp_path)):
        job = UserVectorsJob.of(workspace["generations"], alignment, log)
        job.make(log, runner, Notes())
        made.append({path.name: path.read_bytes() for path in job.folder.glob("*.safetensors")})
        rows = np.array([3, 50, 51, log.n_users - 1])
        assert np.array_equal(job.read(np.arange(log.n_users))[rows], job.read(rows))
        shutil.rmtree(job.folder)
    assert len(made[0]) == 5
    assert made[0] == made[1]
