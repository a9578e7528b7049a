"""An environment of its own for RecTools, whose requirements (NumPy 1, pandas 2) are not ours; made once.

python bench/rectools_environment.py [FOLDER]
"""

import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".work" / "rectools"
_READY = ".ready"


class NotInstallableError(Exception):
    """RecTools cannot be installed here; the message says why."""


def requirements() -> list[str]:
    """RecTools with the torch that we run, and the last pyarrow that runs with NumPy 1, for the logs."""
    torch = version("torch").partition("+")[0]
    return ["rectools[torch]==0.19.0", f"torch=={torch}", "pyarrow==21.0.0"]


def made(folder: Path = FOLDER) -> Path | None:
    """The interpreter of the environment, None where it is not there or holds something else."""
    ready = folder / _READY
    return folder / "bin" / "python" if ready.exists() and ready.read_text().split() == requirements() else None


def make(folder: Path = FOLDER) -> Path:
    """The interpreter of the environment, which is made where it is missing.

    Raises:
        NotInstallableError: If pip fails, say without a network.
    """
    if (python := made(folder)) is not None:
        return python
    print(f"installing RecTools into {folder}, this takes a few minutes ...", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstallableError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    (folder / _READY).write_text("\n".join(requirements()))
    return python


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
