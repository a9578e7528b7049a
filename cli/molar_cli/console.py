"""The only place that prints: results to standard output, progress and notes to standard error.

Nothing that is printed moves the cursor, changes colours or turns the direction of writing, whatever ids, titles and
messages hold; and secrets are taken out of all but results, see :mod:`molar_retrieval.errors`.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from molar_retrieval.errors import redacted

if TYPE_CHECKING:
    from molar.progress import TerminalProgress

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, what turns the direction of writing, and halves of characters."""

_GAP = 2  # cells between columns
_WIDEST = 20  # cells that a column of a table keeps for a word, however little room there is


def visible(text: str, *, keep: str = "") -> str:
    r"""A text whose control characters, but for those to ``keep``, can be seen: an escape becomes ``\u001b``."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)


def wrapped(text: str, width: int) -> str:
    """Lines broken between words, never within one; what follows is indented as the line, and two more.

    ``width`` is in cells of a terminal; a word that is longer stands on a line of its own.
    """
    lines = []
    for line in text.split("\n"):
        if cell_len(line) <= width:
            lines.append(line)
            continue
        start = line[: len(line) - len(line.lstrip())]
        current = start
        for word in line.split():
            fits = cell_len(current) + cell_len(word) + (current.strip() != "") <= width
            if current.strip() and not fits:
                lines.append(current)
                current = start + "  "
            current += f" {word}" if current.strip() else word
        lines.append(current)
    return "\n".join(lines)


def _fitted(whole: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths of columns that fit into the room if they can: the widest one gives way first, none below its least."""
    widths = list(whole)
    while sum(widths) > room:
        wide = [n for n, width in enumerate(widths) if width > least[n]]
        if not wide:
            break
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _said(text: str) -> str:
    """What a person may read of a message."""
    return visible(redacted(text), keep="\n")


def _words(cells: Iterable[object]) -> Iterator[str]:
    return (word for cell in cells for word in str(cell).split())


class Console:
    """One command's voice: results as one JSON document or as tables; ``quiet``: no progress and no notes."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._told = False
        self._noted: set[str] = set()
        self._out = RichConsole(highlight=False)
        self._err = RichConsole(stderr=True, highlight=False)

    @staticmethod
    def _print(console: RichConsole, text: str, *, style: str = "", label: str = "", of_label: str = "") -> None:
        """A text behind its label; on a terminal no word is broken, elsewhere, where programs read it, no line."""
        whole = f"{label} {text}" if label else text
        shown = Text(wrapped(whole, console.width) if console.is_terminal else whole, style=style)
        shown.stylize(of_label, 0, len(label))
        console.print(shown, soft_wrap=True)

    def document(self, value: Mapping[str, Any]) -> None:
        """Write the result for programs."""
        self._told = True
        sys.stdout.write(visible(json.dumps(value, ensure_ascii=False, indent=2), keep="\n") + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
        """Write the result for people; columns whose name starts with ``>`` are aligned to the right."""
        if title:
            self.line(title)
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        names, cells = (
            [column.lstrip(">") for column in columns],
            [[visible(str(cell)) for cell in row] for row in rows],
        )
        whole = [max(map(cell_len, [name, *(row[n] for row in cells)])) for n, name in enumerate(names)]
        words = [
            max(map(cell_len, [*name.split(), *_words(row[n] for row in cells)]), default=0)
            for n, name in enumerate(names)
        ]
        right = [column.startswith(">") for column in columns]
        least = [most if plain else min(_WIDEST, word) for most, word, plain in zip(whole, words, right, strict=True)]
        room = self._out.width - _GAP * (len(columns) - 1)
        for name, width, plain in zip(names, _fitted(whole, least, room), right, strict=True):
            table.add_column(name, justify="right" if plain else "left", overflow="fold", no_wrap=plain, width=width)
        for row in cells:
            table.add_row(*map(escape, row))
        self._out.print(table)

    def line(self, *lines: str) -> None:
        """Write lines of the result for people."""
        for text in lines:
            self._print(self._out, visible(text, keep="\n"))

    def separated(self, rows: Iterable[Sequence[str]]) -> None:
        """Write rows for other programs, with tabs between their cells."""
        for row in rows:
            sys.stdout.write("\t".join(map(visible, row)) + "\n")

    def note(self, *notes: str) -> None:
        """Tell what is happening, each thing once, unless the user wants quiet."""
        for text in () if self.quiet else dict.fromkeys(notes):
            if text not in self._noted:
                self._noted.add(text)
                self._print(self._err, _said(text), style="dim")

    def warn(self, text: str) -> None:
        """Tell what may be a mistake, quiet or not."""
        self._print(self._err, _said(text), label="warning:", of_label="bold yellow")

    def error(self, message: str, hint: str) -> None:
        """Say what is wrong with what, and what to do."""
        self._print(self._err, _said(message), label="error:", of_label="bold red")
        self._print(self._err, _said(hint), label="remedy:", of_label="bold")

    def failure(self, message: str, hint: str, code: int) -> None:
        """Write for programs what is wrong, what to do and the exit code, unless the result is already written."""
        if self.as_json and not self._told:
            self.document({"error": redacted(message), "hint": redacted(hint), "code": code})

    def traceback(self) -> None:
        """Show the exception being handled, and those that led to it, which the front door hides."""
        error = sys.exception()
        while error is not None:
            error.__suppress_context__ = error.__cause__ is not None
            error = error.__cause__ or error.__context__
        self._err.print(Text(_said(traceback.format_exc())), soft_wrap=True)

    def listen(self) -> None:
        """Show what libraries log, where nothing else does."""
        logging.lastResort = _Logged(self)

    def progress(self) -> "TerminalProgress":
        """A progress bar on standard error, silent where it would only be noise."""
        from molar.progress import TerminalProgress

        return TerminalProgress(self._err, shown=not self.quiet, note=self.note)


class _Logged(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, quiet or not."""
        self._console._err.print(Text(_said(self.format(record))), soft_wrap=True)
