"""What was done in a workspace, how long it took and how it ended, in ``WORKSPACE/work/log.jsonl``.

What is at work has a file of its own beside the log, which it holds locked: where somebody can lock it, the process
was killed. Nothing depends on the log: where it cannot be written, the work is done nevertheless.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from molar_retrieval.errors import MolarError
from molar_retrieval.json_lines import JsonLines
from molar_retrieval.locks import lock_now
from molar_retrieval.redaction import redacted
from molar_retrieval.resources import Timer, Took
from molar_retrieval.workspace import Workspace

_FOLDER, _FILE, _BYTES, _OLDER = "work", "log.jsonl", 1 << 20, 1
_UNDER_WAY = ".running"
_CHARACTERS = 500  # of an outcome, and of a remedy
State = Literal["done", "failed", "killed", "running"]
_open: list[FileIO] = []
"""Files of what is at work in this process, the innermost last."""


@dataclass(frozen=True)
class Work:
    """Something that was done in a workspace, or is being done.

    Attributes:
        what: The command: ``update``, ``align``, …
        begun: When, in ISO 8601.
        state: ``done``, ``failed`` (by an error, or because somebody interrupted it), ``killed`` or ``running``.
        seconds: What it took by the clock; None: it has not come to an end of its own.
        processor: Seconds of all processors, those of finished child processes too; None as before.
        outcome: What was done, or went wrong, in words.
        remedy: What to do where it failed.
        generation: The generation that was live then; None: there was none.
        steps: What its steps took by the clock, in seconds.
    """

    what: str
    begun: str
    state: State
    seconds: float | None = None
    processor: float | None = None
    outcome: str = ""
    remedy: str = ""
    generation: str | None = None
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> datetime | None:
        """When it came to its end, in UTC."""
        return None if self.seconds is None else datetime.fromisoformat(self.begun) + timedelta(seconds=self.seconds)


@dataclass
class Told:
    """What the log is to tell of a work that went well: its outcome in words, and seconds by step.

    ``took`` is known once it is over.
    """

    outcome: str = ""
    steps: dict[str, float] = field(default_factory=dict)
    took: Took = field(default_factory=Took)


@contextmanager
def recorded(workspace: Workspace, what: str) -> Iterator[Told]:
    """Write down what is done within: how it went, and what it took."""
    log, told = _Log(workspace.root), Told()
    begun, watch = datetime.now(UTC).isoformat(timespec="seconds"), Timer()
    ended: dict[str, Any] = {"state": "done"}
    with log.under_way(what, begun):
        try:
            yield told
        except BaseException as error:
            ended = {"state": "failed", **_told(error)}
            raise
        finally:
            told.took = watch.took
            took = {"seconds": round(told.took.seconds, 2), "processor": round(told.took.processor, 2)}
            said = {"outcome": told.outcome[:_CHARACTERS], "steps": told.steps}
            if any(workspace.root.glob("*/current")):  # else a first command has failed, and leaves nothing
                with suppress(MolarError):
                    live = workspace["generations"].pointer
                    log.lines.append({"what": what, "begun": begun, **took, **said, "generation": live, **ended})
            log.lines.close()


def work_done(workspace: Workspace, most: int = 100) -> list[Work]:
    """What was done last, and what is at work, the newest first."""
    log = _Log(workspace.root)
    found = [Work(**one) for one in log.lines.newest(most)] + log.unfinished()
    return sorted(found, key=lambda one: one.begun, reverse=True)[:most]


def step(name: str) -> None:
    """Write down which step the work of this process has come to: where it is killed, that is known."""
    if _open:
        with suppress(OSError, ValueError):
            _open[-1].write(_line({"step": name[:_CHARACTERS]}))


def killed_last(workspace: Workspace) -> list[Work]:
    """What was killed since the last work of the workspace began."""
    return [one for one in _Log(workspace.root).unfinished() if one.state == "killed"]


class _Log:
    def __init__(self, workspace: Path) -> None:
        self._folder = workspace / _FOLDER
        self.lines = JsonLines(self._folder / _FILE, most=_BYTES, kept=_OLDER)

    @contextmanager
    def under_way(self, what: str, begun: str) -> Iterator[None]:
        """Say that something is at work, as long as it is."""
        path = self._folder / f"{time.time_ns()}-{os.getpid()}{_UNDER_WAY}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = path.open("xb", buffering=0)  # on a full disk nothing is left to be written as it is closed
        except OSError:
            yield
            return
        with file:
            with suppress(OSError):
                lock_now(file.fileno())
                file.write(_line({"what": what, "begun": begun}))
            self._clean(path)
            _open.append(file)
            try:
                yield
            finally:
                _open.remove(file)
                path.unlink(missing_ok=True)
                with suppress(OSError):  # something is in it
                    self._folder.rmdir()

    def unfinished(self) -> list[Work]:
        """What is at work, and what was killed."""
        found = []
        for path in self._folder.glob(f"*{_UNDER_WAY}"):
            with suppress(OSError, ValueError, TypeError):
                found.append(Work(**(_killed(path) if _is_free(path) else _begun(path)[0] | {"state": "running"})))
        return found

    def _clean(self, own: Path) -> None:
        """Put into the log what was killed before."""
        for path in self._folder.glob(f"*{_UNDER_WAY}"):
            with suppress(OSError, ValueError, MolarError):
                if path != own and _is_free(path):
                    self.lines.append(_killed(path))
                    path.unlink()


def _line(record: dict[str, str]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _is_free(path: Path) -> bool:
    """Whether nobody holds a file; False where the file system has no locks."""
    with path.open("rb") as file:
        return lock_now(file.fileno(), shared=True)


def _begun(path: Path) -> tuple[dict[str, Any], str]:
    """What is, or was, at work by its file, and the last step that it came to; a line may end in the middle."""
    first, *steps = path.read_text("utf-8").splitlines()
    last = ""
    for line in steps:
        with suppress(ValueError):
            last = json.loads(line)["step"]
    return json.loads(first), last


def _killed(path: Path) -> dict[str, Any]:
    from molar_retrieval.workers import remedy

    begun, last = _begun(path)
    outcome = (
        f"it was ended by a signal, or with the machine, {f'in step {last!r}' if last else 'before its first step'}"
    )
    return {**begun, "state": "killed", "outcome": outcome, "remedy": f"run it again; {remedy(None)}"}


def _told(error: BaseException) -> dict[str, str]:
    """What went wrong, without secrets."""
    if isinstance(error, MolarError):
        return {"outcome": redacted(error.message)[:_CHARACTERS], "remedy": redacted(error.hint)[:_CHARACTERS]}
    if isinstance(error, KeyboardInterrupt):
        return {"outcome": "it was interrupted"}
    return {"outcome": redacted(f"{type(error).__name__}: {error}")[:_CHARACTERS]}
