"""The progress display of long work."""

import io
import sys
import types

import pytest
from rich.console import Console

from molar.progress import NotebookProgress, TerminalProgress, display


@pytest.fixture
def cell(monkeypatch):
    """What a notebook's cell shows, one text after the other."""
    shown = []

    class Handle:
        def update(self, html):
            shown.append(html)

    def show(html, display_id=False):
        shown.append(html)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.HTML, module.display = str, show
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_a_notebook_has_one_line_that_changes_and_goes(cell, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("molar.progress.time.monotonic", lambda: next(now))
    with NotebookProgress() as progress:
        progress.start("reading <items>", 300)
        progress.advance(100)
        progress.advance(100)
    assert "reading &lt;items&gt;" in cell[0]
    assert "200 of 300" in cell[2]
    assert cell[-1] == ""


def test_what_is_worth_telling_stays_in_a_notebook(cell):
    NotebookProgress().note("<b>3 photos are broken")
    assert cell == ["<small>&lt;b&gt;3 photos are broken</small>"]


def test_a_notebook_is_not_told_of_every_unit(cell, monkeypatch):
    monkeypatch.setattr("molar.progress.time.monotonic", lambda: 0.0)
    with NotebookProgress() as progress:
        progress.start("reading", None)
        for _ in range(1000):
            progress.advance()
    assert len(cell) < 5


def test_where_there_is_no_terminal_only_notes_are_told():
    out, notes = io.StringIO(), []
    with TerminalProgress(Console(file=out), note=notes.append) as progress:
        progress.start("reading", 3)
        progress.advance()
        progress.note("something")
        progress.finish()
    assert (out.getvalue(), notes) == ("", ["something"])


def test_a_terminal_has_a_bar():
    out = io.StringIO()
    with TerminalProgress(Console(file=out, force_terminal=True, width=100)) as progress:
        progress.start("reading", 3)
        progress.advance(2)
    assert "reading" in out.getvalue()


def test_a_script_gets_the_display_of_a_terminal():
    assert isinstance(display(), TerminalProgress)
