"""What every command runs in: its workspace, its console, its settings and the one boundary for errors."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from molar_cli.console import Console
from molar_retrieval.disk import fault
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace import Workspace, checked, locate

if TYPE_CHECKING:
    from molar.shop import Shop

INTERRUPTED, TERMINATED = 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the command ends as by Ctrl-C."""


@dataclass(frozen=True)
class Session:
    """One run of one command.

    Attributes:
        root: The workspace's folder, which may not exist yet.
        console: Where it speaks.
    """

    root: Path
    console: Console

    def workspace(self) -> Workspace:
        """The existing workspace."""
        return Workspace.open(self.root)

    def shop(self, catalogue: Path | None = None, settings: Path | None = None) -> "Shop":
        """The shop of the workspace, through the front door.

        Args:
            catalogue: Its folder; None: that of the workspace.
            settings: A file that is read instead of ``molar.toml``.
        """
        from molar.shop import Shop

        return Shop(catalogue, self.root, settings, self.console.progress)


@contextmanager
def session(
    workspace: Path | None, *, json: bool = False, quiet: bool = False, debug: bool = False
) -> Iterator[Session]:
    """Run a command's body; errors become two lines and an exit code.

    Raises:
        typer.Exit: With the error's exit code, 130 when interrupted, 143 when terminated.
    """
    console = Console(as_json=json, quiet=quiet)
    console.listen()
    try:
        "\n".join(sys.argv).encode()  # words that are no text would break engines
        root = checked(workspace).resolve() if workspace is not None else locate(Path.cwd())
        with _terminable():
            yield Session(checked(root), console)
    except MolarError as error:
        if debug:
            console.traceback()
        console.error(error.message, error.hint)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        ended = isinstance(error, Terminated)
        said = "terminated" if ended else "interrupted"
        console.note(f"{said}; what was finished is kept, run the same command again to continue")
        raise typer.Exit(TERMINATED if ended else INTERRUPTED) from error
    except BrokenPipeError as error:
        raise typer.Exit(0) from error
    except (typer.Exit, typer.Abort):
        raise
    except (RecursionError, UnicodeError) as error:
        if debug:
            console.traceback()
        what = "nested too deeply to be read" if isinstance(error, RecursionError) else f"not UTF-8: {error}"
        console.error(f"a file or a word of the command line is {what}", "correct it; --debug shows where it is read")
        raise typer.Exit(1) from error
    except Exception as error:
        if debug:
            console.traceback()
        if (known := fault(error)) is not None:
            console.error(known.message, known.hint)
            raise typer.Exit(known.exit_code) from error
        console.error(f"unexpected {type(error).__name__}: {error}", "run again with --debug and report what it shows")
        raise typer.Exit(1) from error


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises :class:`Terminated` in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
