"""Processes that work in turns, so that none takes a core from another: a player sleeps until it is told to go.

Both sides use the standard library alone, as a player may live in another environment.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ANSWERS = "MOLAR_BENCH_ANSWERS"
_TAIL = 2000


class PlayerLostError(Exception):
    """A player ended before its time; the message says what it printed last."""


def wait() -> None:
    """In a player: sleep until it is its turn."""
    if sys.stdin.readline() != "go\n":
        raise SystemExit("nobody is left to play with")


def tell(**facts: Any) -> None:
    """In a player: answer."""
    os.write(int(os.environ[_ANSWERS]), json.dumps(facts).encode() + b"\n")


class Player:
    """A process that answers in JSON on a pipe of its own; whatever else it prints goes into ``log``."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path) -> None:
        self.name, self._log = name, log
        read, write = os.pipe()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[write],
                env={**os.environ, _ANSWERS: str(write)},
            )
        os.close(write)
        self._answers = os.fdopen(read, encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with suppress(BrokenPipeError):
            self._input.close()

    @property
    def _input(self) -> Any:
        return self._process.stdin

    def hear(self) -> dict[str, Any]:
        """The next answer.

        Raises:
            PlayerLostError: If there is none, as the process has ended.
        """
        line = self._answers.readline()
        if not line:
            printed = self._log.read_text("utf-8", errors="replace")[-_TAIL:]
            raise PlayerLostError(f"{self.name} ended with {self._process.wait()}:\n{printed}")
        return dict(json.loads(line))

    def turn(self) -> dict[str, Any]:
        """Let it go, and hear what came of it."""
        with suppress(BrokenPipeError):
            self._input.write(b"go\n")
            self._input.flush()
        return self.hear()
