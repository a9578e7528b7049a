"""``torchrun`` with forks of this process for its workers, which have the slow libraries then: see :mod:`warm`.

python launched.py COUNT PROGRAM …
"""

import runpy
import sys
from uuid import uuid4

from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def worker(program: str, *arguments: str) -> None:
    """Run a program as one of several; what it ends with is told to the launcher."""
    sys.argv = [program, *arguments]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as error:
        if error.code:
            raise RuntimeError(f"ended with {error.code}") from error


if __name__ == "__main__":
    count, *command = sys.argv[1:]
    where = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": uuid4().hex}
    config = LaunchConfig(1, 1, int(count), start_method="fork", max_restarts=0, **where)
    elastic_launch(config, worker)(*command)
