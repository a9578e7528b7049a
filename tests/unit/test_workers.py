"""Processes that work for this one."""

import os
import pickle
import subprocess
import sys
import time

import pytest

from molar_retrieval.data import images
from molar_retrieval.data.images import ImageError, open_file
from molar_retrieval.errors import BackendError, MolarError
from molar_retrieval.workspace.jobs import Workers


def test_they_begin_and_work():
    with Workers(2, os.chdir, "/") as workers:
        assert set(workers.map(_where, range(4))) == {"/"}


def _where(_: int) -> str:
    return os.getcwd()  # noqa: PTH109


def test_an_error_in_the_block_does_not_wait_for_them():
    begun, pids = time.monotonic(), []

    def interrupted() -> None:
        with Workers(1, int) as workers:
            pids.append(workers.submit(os.getpid).result())
            workers.submit(time.sleep, 60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


PLAIN = """
print("begun")
from molar_retrieval.workspace.jobs import Workers
with Workers(2, int) as workers:
    print(sorted(workers.map(abs, range(-3, 0))))
"""
OWN_PROCESSES = """
from multiprocessing import get_context
from molar_retrieval.workspace.jobs import Workers

def twice(number):
    return 2 * number

if __name__ == "__main__":
    with Workers(1, int) as workers:
        print(workers.submit(abs, -1).result())
    with get_context("spawn").Pool(1) as pool:
        print(pool.map(twice, [1, 2]))
"""


@pytest.mark.parametrize(
    ("program", "printed"),
    [(PLAIN, "begun\n[1, 2, 3]\n"), (OWN_PROCESSES, "1\n[2, 4]\n")],
    ids=["no guard", "processes of its own"],
)
def test_a_plain_script_is_not_imported_by_the_processes_that_work_for_it(tmp_path, program, printed):
    (script := tmp_path / "script.py").write_text(program)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


@pytest.mark.parametrize("error", [BackendError("a", "b"), ImageError("broken", "x.jpg")])
def test_errors_travel_between_processes(error: MolarError):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), vars(again), str(again)) == (type(error), vars(error), str(error))


def test_a_decoder_that_does_not_start_is_no_fault_of_the_photo(tmp_path, monkeypatch):
    images._end_all()
    (tmp_path / "x.jpg").write_bytes(b"no photo")
    monkeypatch.setattr(images, "_PROGRAM", "raise ImportError('no PIL here')")
    with pytest.raises(BackendError, match="no PIL here"):
        open_file(tmp_path / "x.jpg")
    monkeypatch.setattr(images.sys, "executable", str(tmp_path / "none"))
    with pytest.raises(BackendError, match="does not start"):
        open_file(tmp_path / "x.jpg")
