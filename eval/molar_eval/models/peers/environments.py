"""Environments for other projects, whose requirements are not ours; each is made once."""

import subprocess
import venv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import platformdirs

from molar_retrieval.workspace.files import write_atomically

_READY = ".ready"


def peer_environments() -> Path:
    """Where they are: in the user's cache, as a workspace that came from elsewhere must not bring programs."""
    return Path(platformdirs.user_cache_dir("molar", appauthor=False)) / "peers"


class NotInstallableError(Exception):
    """The packages cannot be installed here; the message says why."""


@dataclass(frozen=True)
class PeerEnvironment:
    """A virtual environment with pinned packages, by the name of whose they are."""

    name: str
    pins: tuple[str, ...]

    @property
    def requirements(self) -> list[str]:
        """The pins, and the torch that we run, so that nobody is slower for another one."""
        return [*self.pins, f"torch=={version('torch').partition('+')[0]}"]

    def made(self, folder: Path) -> Path | None:
        """The interpreter of the environment, None where it is not there or holds something else."""
        ready = folder / _READY
        return folder / "bin" / "python" if ready.exists() and ready.read_text().split() == self.requirements else None

    def make(self, folder: Path) -> Path:
        """The interpreter of the environment, which is made where it is missing; it takes minutes and about 1 GB.

        Raises:
            NotInstallableError: If pip fails, say without a network.
        """
        if (python := self.made(folder)) is not None:
            return python
        venv.create(folder, with_pip=True, clear=True)
        python = folder / "bin" / "python"
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstallableError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
        write_atomically(folder / _READY, "\n".join(self.requirements))
        return python


RECTOOLS = PeerEnvironment("rectools", ("rectools[torch]==0.19.0",))
