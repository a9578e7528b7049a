"""A script in another environment, seen from here."""

import json
import subprocess
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molar_retrieval.errors import DataError

LOG = "peer.log"
_TAIL = 400


class PeerProcess:
    """A running script, which ends with the last reference to it, or with us.

    It hears lines on its standard input and answers in JSON; whatever else it prints goes into ``peer.log`` in its
    folder. The interpreter reads no variables of our Python's.
    """

    def __init__(self, name: str, python: Path, script: Path, folder: Path) -> None:
        self.name, self._log = name, folder / LOG
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python.absolute(), "-E", "-s", "-u", script.absolute(), folder.absolute()],
                cwd=folder,  # some libraries write where they stand
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        self._end = weakref.finalize(self, _end, self._process)

    def say(self, line: str) -> None:
        """Send a line; DataError if nobody is there."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._lost() from error

    def hear(self) -> Mapping[str, Any]:
        """The next message; DataError if the script ended before it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._lost()
        message: Mapping[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """End it."""
        self._end()

    def _lost(self) -> DataError:
        code = self._process.wait()
        printed = self._log.read_text("utf-8", errors="replace").strip()[-_TAIL:]
        last = printed.splitlines()[-1] if printed else "it printed nothing"
        return DataError(f"{self.name}: its script ended with {code}: {last}", f"read {self._log}")


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
