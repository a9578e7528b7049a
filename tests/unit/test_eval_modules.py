"""Fingerprints of code."""

import subprocess
import sys
from importlib import invalidate_caches
from pathlib import Path

import pytest

from molar_eval import modules

ROOT = Path(__file__).resolve().parents[2]


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
        for cached in (modules._read, modules._path):
            cached.cache_clear()
        invalidate_caches()
        return modules.of_modules("scratch_main")

    yield of
    for cached in (modules._read, modules._path):
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
    reached = modules.reached("molar_retrieval.models.alignment")
    assert {"molar_retrieval.models.towers.training", "molar_retrieval.models.als"} <= reached
    assert not any(name.startswith(("molar_cli", "molar_eval")) for name in reached)


def test_the_commit_is_that_of_the_source():
    found = modules.commit()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    if head.returncode:
        assert found is None
    else:
        assert found is not None
        assert found.removesuffix("+changes") == head.stdout.strip()


def test_outside_of_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    copy = tmp_path / "modules.py"
    copy.write_text("")
    monkeypatch.setattr(modules, "__file__", str(copy))
    assert modules.commit() is None
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)  # somebody else's
    assert modules.commit() is None


def test_the_code_of_results_is_not_that_of_their_page():
    assert not any(
        name.startswith(("molar_cli", "molar_eval.report.page")) for name in modules.reached(*modules.RESULTS)
    )


def test_scripts_of_peers_count_for_a_report():
    script = "molar_eval.models.peers.scripts.rectools-transformers"
    assert script in modules.RESULTS
    assert modules.of_modules(script) != modules.of_modules("no module"), "it is read"
