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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

_LIBRARIES = (
    "torch._dynamo",
    "pyarrow.dataset",
    "scipy.sparse",
    "grpc",
    "implicit.als",
    "rich.progress",
    "portalocker",
    "molar_cli.app",
    "molar.shop",
    "molar.progress",
    "molar.aligning",
    "molar.purging",
    "molar.doctor.examine",
    "molar_retrieval.embedding.run",
    "molar_retrieval.quality.check",
    "molar_retrieval.models.alignment",
    "molar_indexes.refresh",
    "molar_indexes.rebuild",
    "molar_indexes.recommender",
    "molar_eval.evaluate",
    "molar_eval.report.page",
)
"""3 seconds of a processor, and what the commands of molar import."""
MOLAR = Path(sys.executable).with_name("molar")
"""The installed command."""
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
        self,
        program: Path,
        *arguments: object,
        cwd: Path | None = None,
        input: str = "",
        libraries: Sequence[str] = (),
        **environment: str,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end; what it printed, and its exit code, negative where a signal ended it.

        ``libraries`` are slow ones that it imports beyond those of all, ``environment`` variables that it has beyond.
        """
        command = [str(program), *map(str, arguments)]
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder) / name) for name in ("stdin", "stdout", "stderr")]
            Path(files[0]).write_text(input, "utf-8")
            asked = {"command": command, "files": files, "cwd": str(cwd or Path.cwd()), "environment": environment}
            asked["libraries"] = [*libraries]
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
            todo = json.loads(line)
            _import(todo.get("libraries", ()))
            child = os.fork()
            if child == 0:
                return todo
            _, status = os.waitpid(child, 0)
            told.write(f"{os.waitstatus_to_exitcode(status)}\n")
            told.flush()
    return None


def _import(libraries: Sequence[str]) -> None:
    """Import them so that forks need not copy them: else each looks for garbage in them at its end, for 2 seconds."""
    if not all(library in sys.modules for library in libraries):
        for library in libraries:
            importlib.import_module(library)
        gc.collect()
        gc.freeze()


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
    importlib.import_module("molar_retrieval.data.languages").language_of("")  # reads its model, for half a second
    modules = importlib.import_module("molar_eval.modules")
    modules.of_modules(*modules.RESULTS)  # reads all of our code, for a second
    _import(_LIBRARIES)
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
