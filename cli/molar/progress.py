"""One progress display for long work: a bar in a terminal, a line that changes in a notebook, silence elsewhere."""

import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from molar_retrieval.workspace.activity_log import step

if TYPE_CHECKING:
    from rich.console import Console

_PAUSE = 0.2  # seconds between two changes of a notebook's line


def display() -> "TerminalProgress | NotebookProgress":
    """The display that suits where the program runs."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    return NotebookProgress() if console.is_jupyter else TerminalProgress(console)


class TerminalProgress:
    """`molar_retrieval.progress.Progress` as a bar on a terminal, if ``shown``; a context manager.

    ``note`` is told what is worth telling; None: the console.
    """

    def __init__(self, console: "Console", *, shown: bool = True, note: Callable[[str], None] | None = None) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._shown = console.is_terminal and shown
        self._note = note or (lambda text: console.print(text, style="dim", markup=False, soft_wrap=True))
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[done]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._shown:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            self._bar.stop()

    def start(self, task: str, total: int | None) -> None:
        """A task begins."""
        self.finish()
        step(task)
        if self._shown:
            self._task = self._bar.add_task(task, total=total, done="", rate="")

    def advance(self, n: int = 1) -> None:
        """More units are done."""
        if self._task is None:
            return
        self._bar.advance(self._task, n)
        task = self._bar.tasks[-1]
        of = "" if task.total is None else f" of {task.total:,.0f}"
        rate = f"{task.speed:,.0f}/s" if task.speed else ""
        self._bar.update(self._task, done=f"{task.completed:,.0f}{of}", rate=rate)

    def note(self, message: str) -> None:
        """Something worth telling."""
        self._note(message)

    def finish(self) -> None:
        """The running task is done."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None


class NotebookProgress:
    """`molar_retrieval.progress.Progress` as one line of a notebook's cell; a context manager."""

    def __init__(self) -> None:
        self._line: Any = None
        self._total: int | None = None
        self._task, self._done, self._began, self._told = "", 0, 0.0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._tell("")

    def start(self, task: str, total: int | None) -> None:
        """A task begins."""
        step(task)
        self._task, self._done, self._total = task, 0, total
        self._began = time.monotonic()
        self._tell(task)

    def advance(self, n: int = 1) -> None:
        """More units are done."""
        self._done += n
        now = time.monotonic()
        if now - self._told < _PAUSE:
            return
        of = "" if self._total is None else f" of {self._total:,}"
        rate = self._done / max(now - self._began, 1e-9)
        self._tell(f"{self._task}: {self._done:,}{of}, {rate:,.0f}/s")

    def note(self, message: str) -> None:
        """Something worth telling; it stays."""
        _cell().display(_cell().HTML(_small(message)))

    def finish(self) -> None:
        """The running task is done."""
        self._tell("")

    def _tell(self, text: str) -> None:
        self._told = time.monotonic()
        shown = _cell().HTML(_small(text))
        if self._line is None:
            self._line = _cell().display(shown, display_id=True)
        else:
            self._line.update(shown)


def _small(text: str) -> str:
    from html import escape

    return f"<small>{escape(text)}</small>" if text else ""


def _cell() -> Any:
    """IPython's display, whose functions have no types."""
    return import_module("IPython.display")
