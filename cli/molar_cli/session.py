"""What every command runs in: its workspace, its console, its settings and the one boundary for errors."""

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from molar_cli.console import Console
from molar_retrieval.disk import fault
from molar_retrieval.errors import DataError, MolarError
from molar_retrieval.workspace import Workspace, checked, locate

if TYPE_CHECKING:
    from molar_retrieval.config import MolarSettings

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

    @contextmanager
    def workspace_of(self, catalogue: Path, *, dry: bool = False) -> Iterator[Workspace]:
        """The workspace of a catalogue, made where it does not exist.

        Args:
            catalogue: Its folder.
            dry: Leave the real one as it is, and forget what is written.

        Raises:
            DataError: If there is no catalogue, or the workspace serves another one.
        """
        from molar_retrieval.catalog.sources import find_file

        if find_file(catalogue, "items") is None:
            raise DataError(f"{catalogue} has no items file", "put items.parquet, items.csv or items.jsonl there")
        if not dry:
            yield Workspace.for_catalogue(self.root, catalogue)
            return
        from molar_retrieval.aside import aside

        with aside(self.root, catalogue) as place:
            yield place

    def settings(self, file: Path | None = None, *, trust: bool = False, **flags: Mapping[str, Any]) -> "MolarSettings":
        """Settings from ``molar.toml`` beside the workspace, the environment and the flags, by section.

        Args:
            file: Read instead of ``molar.toml``.
            trust: Whether code that a model brings may run; nothing but the command line says so.
            flags: By section and key.
        """
        from molar_retrieval.config import MolarSettings

        found = MolarSettings.load(self.root.parent, flags=flags, file=file)
        return found.model_copy(update={"embed": found.embed.trusting()}) if trust else found


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
