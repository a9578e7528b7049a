"""Running the installed command as people do."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MOLAR = Path(sys.executable).with_name("molar")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def molar() -> Run:
    """Runs `molar` with the given arguments as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*arguments: object, **options: object) -> "subprocess.CompletedProcess[str]":
        command = [str(MOLAR), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)

    return run
