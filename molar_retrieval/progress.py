"""How long-running steps tell what they are doing, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """A listener; the command line implements it with a progress bar on standard error."""

    def start(self, task: str, total: int | None) -> None:
        """A task of ``total`` units begins (None: unknown)."""

    def advance(self, n: int = 1) -> None:
        """``n`` more units of the running task are done."""

    def note(self, message: str) -> None:
        """Something worth telling happened."""

    def finish(self) -> None:
        """The running task is done."""


class _Silent:
    def start(self, task: str, total: int | None) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def note(self, message: str) -> None: ...
    def finish(self) -> None: ...


class Notes(_Silent):
    """A listener that keeps what is worth telling."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        """Keep a sentence."""
        self.notes.append(message)


class ToldOnce:
    """Passes on what another listener is told, but no sentence twice: for work that is done again and again."""

    def __init__(self, to: Progress) -> None:
        self._to, self._told = to, set[str]()
        self.start, self.advance, self.finish = to.start, to.advance, to.finish

    def note(self, message: str) -> None:
        """Pass it on the first time."""
        if message not in self._told:
            self._told.add(message)
            self._to.note(message)


SILENT: Progress = _Silent()  # the listener that does nothing
