"""An environment of its own for RecTools, whose requirements (NumPy 1, pandas 2) are not ours; made once.

python bench/rectools_environment.py [FOLDER]
"""

import sys
from pathlib import Path

from molar_eval.models.peers.environments import RECTOOLS, NotInstallableError

__all__ = ["FOLDER", "NotInstallableError", "made", "make"]

FOLDER = Path(__file__).resolve().parents[1] / ".work" / "rectools"


def made(folder: Path = FOLDER) -> Path | None:
    """The interpreter of the environment, None where it is not there or holds something else."""
    return RECTOOLS.made(folder)


def make(folder: Path = FOLDER) -> Path:
    """The interpreter of the environment, which is made where it is missing; NotInstallableError if pip fails."""
    if RECTOOLS.made(folder) is None:
        print(f"installing RecTools into {folder}, this takes a few minutes ...", file=sys.stderr)
    return RECTOOLS.make(folder)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
