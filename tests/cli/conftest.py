"""Running the installed command as people do."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from warm import Warm

MOLAR = Path(sys.executable).with_name("molar")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def molar(warm: Warm) -> Run:
    """Runs `molar` with the given arguments as a process of its own."""
    return lambda *arguments, **options: warm.run(MOLAR, *arguments, **options)
