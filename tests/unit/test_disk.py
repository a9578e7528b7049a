"""Room on a disk: asked for, and named in errors of the system and of libraries."""

import errno
import os
import resource
import sqlite3
from pathlib import Path

import pytest

from molar_retrieval.errors import DataError, DiskError
from molar_retrieval.workspace import files
from molar_retrieval.workspace.artefacts import Workspace


def test_work_that_does_not_fit_is_refused_with_what_is_free(tmp_path):
    files.require_space(tmp_path / "not" / "there", 1, "this takes")
    with pytest.raises(
        DiskError, match=r"this takes 1,000,\d+.\d GB, and .*not there has [\d,.]+ [GM]B left"
    ) as caught:
        files.require_space(tmp_path / "not there", 1e15, "this takes")
    assert "--workspace" in caught.value.hint
    assert isinstance(caught.value, DataError)


def test_a_reservation_leaves_nothing(tmp_path):
    files.reserve_space(tmp_path, 1 << 20, "this takes")
    files.reserve_space(tmp_path, 0, "this takes")
    assert list(tmp_path.iterdir()) == []


def test_a_reservation_meets_limits_that_no_figure_shows(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(DiskError, match="larger than is allowed"):
            files.reserve_space(tmp_path, 2 << 20, "this takes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/some/file"), "no room to write /some/file"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (OSError(errno.EFBIG, "File too large"), "larger"),
        (OSError(errno.EROFS, "Read-only file system", "/ro/lock"), "/ro/lock is on a read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "may not open /x"),
        (sqlite3.OperationalError("database or disk is full"), "no room"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "read-only"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no room"),
        (Exception("Service runtime error: Not enough space available for optimization"), "no room"),
        (OSError("[Errno 28] Error writing bytes to file"), "no room"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_system_and_libraries_say_is_recognised(error, words):
    found = files.disk_error(error)
    assert found is not None
    assert words in found.message
    assert found.hint


def test_other_errors_are_not(tmp_path):
    assert files.disk_error(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert files.disk_error(ValueError("28")) is None
    assert files.disk_error(OSError("broken")) is None


def test_a_writer_is_told_before_it_writes_to_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "free_space", lambda _: 1000)
    with pytest.raises(DiskError, match="writing the content takes"), Workspace(tmp_path).lock("content"):
        pass
    assert not (tmp_path / "content").exists()


def test_room_is_that_of_the_nearest_folder_there_is(monkeypatch):
    asked = []
    usage = files.shutil.disk_usage
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: asked.append(folder) or usage(folder))
    assert files.free_space(Path("/no/such/folder")) > 0
    assert asked == [Path(os.sep)]
