"""One writer of a file at a time."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from molar_retrieval.errors import DataError
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import lock_beside, read_lock


def test_a_second_writer_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.parquet"
    with lock_beside(target):
        with pytest.raises(DataError, match="another process is writing") as caught, lock_beside(target):
            pass
        assert "wait" in caught.value.hint
        with lock_beside(tmp_path / "other"):
            pass
    assert list(target.parent.iterdir()) == []
    with lock_beside(target):
        pass


def test_whoever_dies_lets_go(tmp_path: Path) -> None:
    target = tmp_path / "out"
    program = f"""
import os
from pathlib import Path
from molar_retrieval.workspace.files import lock_beside
with lock_beside(Path({str(target)!r})):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert (tmp_path / ".out.lock").exists()
    with lock_beside(target):
        pass
    assert not (tmp_path / ".out.lock").exists()


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), lock_beside(tmp_path / "file" / "out"):
        pass


def test_never_two_at_once(tmp_path: Path) -> None:
    target, inside, most, refused = tmp_path / "out", 0, 0, 0

    def work() -> None:
        nonlocal inside, most, refused
        for _ in range(300):
            try:
                with lock_beside(target):
                    inside += 1
                    most = max(most, inside)
                    time.sleep(0.0002)
                    inside -= 1
            except DataError:
                refused += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert refused < 1200


def test_what_is_held_stays_though_something_else_is_said_of_it(tmp_path: Path) -> None:
    store = Workspace(tmp_path)["generations"]

    def publish(name: str) -> Path:
        partial = store.root / f"{name}.partial"
        partial.mkdir(parents=True)
        return store.publish(partial, Manifest("generations", name))

    first = publish("first")
    with read_lock(first):
        for events in range(3):
            store.update_manifest(replace(store.require()[1], facts={"events": events}))
        publish("second")
        assert store.versions() == [first, store.current]
    third = publish("third")
    assert store.versions() == [third]
    with read_lock(third):
        store.update_manifest(replace(store.require()[1], facts={"events": 3}))
        assert list(third.glob(".manifest-*"))
    store.update_manifest(replace(store.require()[1], facts={"events": 4}))
    assert not list(third.glob(".manifest-*"))
