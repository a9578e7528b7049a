"""Programs that need no seconds to start: forks of a process in which the slow libraries are imported already."""

import atexit
import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

_LIBRARIES = (
    "torch._dynamo",
    "sentence_transformers",
    "timm",
    "pyarrow.dataset",
    "scipy.sparse",
    "grpc",
    "molar_cli.app",
)
"""5 seconds of a processor, and what each command of molar imports."""
_DOOR = """#!{python} -IS
import json, os, sys
streams = [f"/proc/{{os.getpid()}}/fd/{{number}}" for number in range(3)]
asked = {{"command": {command} + sys.argv[1:], "files": streams, "cwd": os.getcwd(), "environment": dict(os.environ)}}
os.write({tell}, json.dumps(asked).encode() + b"\\n")
code = int(os.read({told}, 20))
sys.exit(code if code >= 0 else 128 - code)
"""


class Warm:
    """Runs Python programs one after the other, each in a process of its own, as ``python PROGRAM …`` does.

    The processes have the hashes of strings in common: what must not depend on them needs `subprocess`.
    """

    def __init__(self) -> None:
        asked, tell = os.pipe()
        told, answer = os.pipe()
        self._waiting = subprocess.Popen(
            [sys.executable, __file__, str(asked), str(answer)],
            pass_fds=(asked, answer),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        os.close(asked)
        os.close(answer)
        self._tell, self._told = os.fdopen(tell, "w"), os.fdopen(told)

    def run(
        self, program: Path, *arguments: object, cwd: Path | None = None, input: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end; what it printed, and its exit code, negative where a signal ended it.

        ``environment`` are variables that it has beyond those of all.
        """
        command = [str(program), *map(str, arguments)]
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder) / name) for name in ("stdin", "stdout", "stderr")]
            Path(files[0]).write_text(input, "utf-8")
            asked = {"command": command, "files": files, "cwd": str(cwd or Path.cwd()), "environment": environment}
            self._tell.write(json.dumps(asked) + "\n")
            self._tell.flush()
            code = int(self._told.readline())
            output, errors = (Path(file).read_text("utf-8") for file in files[1:])
        return subprocess.CompletedProcess(command, code, output, errors)

    def shell(self, script: str, program: Path, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a shell script, to which ``program`` is one of these programs, one at a time and not to be killed.

        ``environment`` are variables that it has beyond those of all.
        """
        ends = self._tell.fileno(), self._told.fileno()
        with tempfile.TemporaryDirectory() as folder:
            door = Path(folder) / program.name
            named = {"python": sys.executable, "command": [str(program)], "tell": ends[0], "told": ends[1]}
            door.write_text(_DOOR.format(**named), "utf-8")
            door.chmod(0o700)
            environment = {**os.environ, **environment, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
            return subprocess.run(
                ["bash", "-euc", script], cwd=cwd, env=environment, capture_output=True, text=True, check=False,
                pass_fds=ends,
            )  # fmt: skip

    def close(self) -> None:
        """Let the waiting process end."""
        self._tell.close()
        self._waiting.wait(30)
        self._told.close()


def _next(asked: int, answer: int) -> dict[str, Any] | None:
    """What this process, a fork, is to run; None in the waiting one, at its end."""
    with os.fdopen(asked) as lines, os.fdopen(answer, "w") as told:
        for line in lines:
            child = os.fork()
            if child == 0:
                return json.loads(line)
            _, status = os.waitpid(child, 0)
            told.write(f"{os.waitstatus_to_exitcode(status)}\n")
            told.flush()
    return None


def _run(program: str) -> int:
    """Run a program in this process; its exit code."""
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """End this process as Python does, but for freeing each of the libraries' objects, which takes half a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for library in _LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # else each fork copies all of it in order to look for garbage at its end, for 2 seconds
    todo = _next(*map(int, sys.argv[1:]))
    if todo is not None:
        for number, file in enumerate(todo["files"]):
            opened = os.open(file, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        os.chdir(todo["cwd"])
        os.environ |= todo["environment"]
        sys.argv = todo["command"]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        _end(_run(sys.argv[0]))
