"""Unpacking Gemma, with a stand-in for its packages; the contract runs on the real one where it is installed."""

import os
import time
from types import SimpleNamespace

import pytest

from molar_retrieval.encoders import gemma
from molar_retrieval.errors import BackendError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(gemma, "import_module", lambda _: SimpleNamespace(assemble=None))
    return tmp_path / "hub" / "molar--gemma"


def converting(*others):
    def convert(assemble, source, target):
        (target / "model.safetensors").write_bytes(b"weights")
        for other in others:
            other.mkdir()
            (other / "model.safetensors").write_bytes(b"theirs")

    return convert


def test_what_a_killed_process_left_goes_and_what_another_one_makes_stays(folder, monkeypatch):
    monkeypatch.setattr(gemma, "_convert", converting())
    killed, busy = (folder.parent / f".{folder.name}.{name}" for name in ("killed", "busy"))
    for one in (killed, busy):
        (one / "model").mkdir(parents=True)
    ago = time.time() - 2 * gemma._LONG_AGO
    os.utime(killed, (ago, ago))
    assert gemma._unpacked(folder) == folder
    assert sorted(one.name for one in folder.parent.iterdir()) == [busy.name, folder.name]
    assert (folder / "modules.json").exists()


def test_the_first_of_two_that_unpack_at_once_is_taken(folder, monkeypatch):
    monkeypatch.setattr(gemma, "_convert", converting(folder))
    assert (gemma._unpacked(folder) / "model.safetensors").read_bytes() == b"theirs"
    assert [one.name for one in folder.parent.iterdir()] == [folder.name]


def test_a_failure_is_told_and_leaves_nothing(folder, monkeypatch):
    def fail(*_):
        raise ValueError("Assembled file sha256 did not match expected value")

    monkeypatch.setattr(gemma, "_convert", fail)
    with pytest.raises(BackendError, match="sha256"):
        gemma._unpacked(folder)
    assert not list(folder.parent.iterdir())
