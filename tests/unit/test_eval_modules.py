"""Fingerprints of code."""

import sys
from importlib import invalidate_caches

import pytest

from molar_eval import modules


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """Fingerprint a module made of the given text, as a process of its own would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(modules, "_OURS", ("scratch_main", "scratch_other"))

    def of(main: str, other: str = "X = 1\n") -> str:
        (tmp_path / "scratch_main.py").write_text(main)
        (tmp_path / "scratch_other.py").write_text(other)
        for name in ("scratch_main", "scratch_other"):
            sys.modules.pop(name, None)
        for cached in (modules._imports, modules._code, modules._path):
            cached.cache_clear()
        invalidate_caches()
        return modules.of_modules("scratch_main")

    yield of
    for cached in (modules._imports, modules._code, modules._path):
        cached.cache_clear()


def test_layout_comments_and_docstrings_do_not_count(fingerprint):
    plain = fingerprint("def f(a):\n    return a + 1\n")
    assert plain == fingerprint('"""Module."""\n\n# why\ndef f( a ):\n    """Doc."""\n    return a+1\n')
    assert plain != fingerprint("def f(a):\n    return a + 2\n")


def test_imports_count_wherever_they_stand(fingerprint):
    for main in ("import scratch_other\n", "def f():\n    from scratch_other import X\n    return X\n"):
        assert fingerprint(main, "X = 1\n") == fingerprint(main, "X = 1  # one\n")
        assert fingerprint(main, "X = 1\n") != fingerprint(main, "X = 2\n")


def test_what_is_not_imported_does_not_count(fingerprint):
    assert fingerprint("import json\n", "X = 1\n") == fingerprint("import json\n", "X = 2\n")


def test_the_alignment_depends_on_its_losses_and_not_on_the_command_line():
    reached = set()
    waiting = ["molar_retrieval.alignment.align"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += modules._imports(name)
    assert {"molar_retrieval.alignment.losses", "molar_retrieval.collaborative.als"} <= reached
    assert not any(name.startswith(("molar_cli", "molar_eval")) for name in reached)
