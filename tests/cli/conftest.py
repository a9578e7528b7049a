"""Running the installed command as people do."""

import subprocess
from collections.abc import Callable

import pytest
from warm import MOLAR, Warm

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def molar(warm: Warm) -> Run:
    """Runs `molar` with the given arguments as a process of its own."""
    return lambda *arguments, **options: warm.run(MOLAR, *arguments, **options)


@pytest.fixture(scope="session")
def shell(warm: Warm) -> Run:
    """Runs a script of the shell in a folder; each `molar` in it is a process of its own."""
    return lambda script, folder, **environment: warm.shell(script, MOLAR, folder, **environment)
