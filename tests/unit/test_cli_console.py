"""What a terminal of 80 columns shows: no word is broken."""

import io

import pytest
from rich.console import Console as RichConsole

from molar_cli.console import Console, wrapped

WORDS = "log: the catalogue is German, and the encoder understands English only, which a person should know at once"


@pytest.mark.parametrize(
    "text", [WORDS, f"      12  {WORDS}", f"  {WORDS}\n{WORDS}", "a" * 200, "青い茶碗 " * 40, "", "short"]
)
@pytest.mark.parametrize("width", [20, 40, 80])
def test_lines_fit_and_words_stay_whole(text, width):
    from rich.cells import cell_len

    lines = wrapped(text, width).split("\n")
    assert wrapped(text, width).split() == text.split()
    assert all(cell_len(line) <= width or len(line.split()) == 1 for line in lines)


def test_what_follows_is_indented():
    assert wrapped("   one two three", 10) == "   one two\n     three"


@pytest.fixture
def terminal(monkeypatch):
    def make(width=80, *, is_terminal=True):
        console, written = Console(), io.StringIO()
        for name in ("_out", "_err"):
            made = RichConsole(file=written, width=width, force_terminal=is_terminal, color_system=None)
            monkeypatch.setattr(console, name, made)
        return console, written

    return make


def test_a_table_breaks_no_word_at_80_columns(terminal):
    console, written = terminal()
    row = ["A-0001", "Gartenzwerg blau mit roter Mütze", "the Kundennummer says who it was, in all of the rows"]
    console.table(["item", "title", "because"], [row] * 3)
    said = written.getvalue()
    assert all(word in said for cell in row for word in cell.split())
    assert max(map(len, said.splitlines())) <= 80


def test_errors_and_notes_wrap_on_a_terminal_and_are_one_line_elsewhere(terminal):
    console, written = terminal()
    console.error(WORDS, WORDS)
    assert len(written.getvalue().splitlines()) == 4
    console, written = terminal(is_terminal=False)
    console.error(WORDS, WORDS)
    console.line(WORDS)
    assert written.getvalue().splitlines() == [f"error: {WORDS}", f"remedy: {WORDS}", WORDS]


def test_a_note_is_told_once(terminal):
    console, written = terminal()
    console.note("one", "two", "one")
    console.note("two")
    assert written.getvalue().split() == ["one", "two"]


def test_markup_of_data_is_shown_as_it_is(terminal):
    console, written = terminal(is_terminal=False)
    console.line("[bold]x[/] \\[y]")
    console.note("[red]z")
    assert written.getvalue().splitlines() == ["[bold]x[/] \\[y]", "[red]z"]


def test_a_table_of_80_cells_breaks_no_word(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    row = ["2026-11-26 20:13:05", "impression", "customer-0000001", "SKU-0002", "12.0", "39.80"]
    Console().table(["time (UTC)", "event", "who", "item", ">quantity", ">value"], [row])
    Console().table(["", "generation", ""], [["→", "", ""]])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert all(word in shown for cell in row for word in cell.split())
    assert "quantity" in shown
