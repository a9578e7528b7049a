"""What every command runs in: its workspace, its console, its settings and the one boundary for errors."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from molar_cli.console import Console
from molar_cli.options import DebugOption, JsonOption, QuietOption, SettingsOption, WorkspaceOption
from molar_retrieval.errors import MolarError, SettingsError
from molar_retrieval.workspace.artefacts import Workspace, checked
from molar_retrieval.workspace.discovery import DEFAULT_NAME, is_workspace, nearest_workspace, workspace_for
from molar_retrieval.workspace.files import disk_error

if TYPE_CHECKING:
    from molar.shop import Shop

INTERRUPTED, TERMINATED = 130, 143
_SHARED: dict[str, tuple[Any, Any]] = {
    "workspace": (WorkspaceOption, None),
    "settings": (SettingsOption, None),
    "json": (JsonOption, False),
    "quiet": (QuietOption, False),
    "debug": (DebugOption, False),
}
"""The options of every command, with their defaults."""

READ = (
    "query", "recommend", "export", "doctor", "index list", "index verify", "index diff", "index size", "events tail",
    "events export", "experiment plan", "experiment status", "experiment report", "experiment export", "keys list",
    "cluster status", "privacy scan", "privacy export", "privacy pseudonym", "privacy report", "privacy ledger",
    "privacy certificate", "backup",
)  # fmt: skip
"""Commands that change nothing in the workspace: they take the nearest one, here or above."""
WRITE = (
    "check", "embed", "finetune", "cf", "align", "tune", "update", "serve", "evaluate", "index rollback", "index push",
    "index prune", "events append", "events compact", "experiment start", "experiment check", "experiment advance",
    "experiment stop", "experiment assign", "keys add", "keys revoke", "privacy forget",
    "privacy object", "privacy prune", "privacy rotate", "privacy share", "workspace move",
)  # fmt: skip
"""Commands that change it, or what is served from it: one above the current folder must be named."""
OF_NO_WORKSPACE = "demo", "init", "import", "restore"
"""Commands that look for none."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the command ends as by Ctrl-C."""


@dataclass(frozen=True)
class Session:
    """One run of one command, in a workspace's folder, which may not exist yet."""

    root: Path
    console: Console
    settings: Path | None = None

    def shop(self, catalogue: Path | None = None) -> "Shop":
        """The shop of the workspace or of a catalogue, through the front door."""
        from molar.shop import Shop

        return Shop(catalogue, self.root, self.settings, self.console.progress)

    def document(self, result: Mapping[str, Any]) -> bool:
        """Write the result for programs, if one asks, and say whether."""
        if self.console.as_json:
            self.console.document(result)
        return self.console.as_json


def command(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A function as a command: its first argument is a :class:`Session`; every command's options but some are added."""

    def decorated(body: Callable[..., None]) -> Callable[..., None]:
        shared = [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
            for name, (kind, default) in _SHARED.items()
            if name not in without
        ]
        called = Parameter("of_click", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [called, *list(signature(body).parameters.values())[1:], *shared]

        def run_in_session(of_click: typer.Context, **said: Any) -> None:
            common = {option.name: said.pop(option.name) for option in shared}
            catalogue = said.get("catalog") or said.get("catalogue")
            name = of_click.command_path.partition(" ")[2]
            with session(name, **common, catalogue=catalogue) as run:
                body(run, **said)

        run_in_session.__name__, run_in_session.__doc__ = body.__name__, body.__doc__
        run_in_session.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        run_in_session.__annotations__ = {one.name: one.annotation for one in parameters}
        return run_in_session

    return decorated


@contextmanager
def session(
    name: str,
    workspace: Path | None = None,
    settings: Path | None = None,
    *,
    json: bool = False,
    quiet: bool = False,
    debug: bool = False,
    catalogue: Path | None = None,
) -> Iterator[Session]:
    """Run the body of the command ``name``; errors become two lines and an exit code.

    That is 130 when interrupted, 143 when terminated. With ``json`` they are the document on standard output as well,
    unless the result stands there already. Without a ``workspace`` it is the catalogue's, or the nearest one; a command
    that writes takes none above the current folder.
    """
    console = Console(as_json=json, quiet=quiet)
    console.listen()
    rotating = name == "privacy rotate"  # it ends a change of keys that was interrupted
    try:
        "\n".join(sys.argv).encode()  # words that are no text would break engines
        root = Path.cwd() / DEFAULT_NAME
        if workspace is not None:
            root = checked(workspace, rotating=rotating).resolve()
        elif name not in OF_NO_WORKSPACE:
            root = _found(name, catalogue, console)
        with _terminable():
            yield Session(checked(root, rotating=rotating), console, settings)
    except KeyboardInterrupt as error:
        ended = isinstance(error, Terminated)
        said = "terminated" if ended else "interrupted"
        kept = "what was finished is kept, run the same command again to continue"
        code = TERMINATED if ended else INTERRUPTED
        console.note(f"{said}; {kept}")
        console.failure(said, kept, code)
        raise typer.Exit(code) from error
    except BrokenPipeError as error:
        raise typer.Exit(0) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if debug:
            console.traceback()
        message, hint, code = _explained(error)
        console.error(message, hint)
        console.failure(message, hint, code)
        raise typer.Exit(code) from error


def _found(name: str, catalogue: Path | None, console: Console) -> Path:
    """The workspace of a catalogue, or the nearest one; which it is, is told where it is not plain.

    A SettingsError says that it is above the current folder, and the command ``name`` writes.
    """
    here = Path.cwd()
    if catalogue is None:
        root = nearest_workspace(here)
    else:
        from molar_retrieval.data.schema import folder_of

        root = workspace_for(folder_of(catalogue), here)
    if root.parent != here and is_workspace(root):
        if name not in READ:
            raise SettingsError(
                f"the nearest workspace is {root}, above this folder, and `molar {name}` writes into none that is not"
                " named",
                f"if it is meant, add --workspace {root}, or run the command in {root.parent}; a workspace of this"
                " folder is made by `molar embed CATALOG --workspace .molar`",
            )
        console.note(f"workspace: {root}, of the shop {Workspace(root).catalogue}")
    return root


def _explained(error: Exception) -> tuple[str, str, int]:
    """What is wrong, what to do, and the exit code."""
    if isinstance(error, RecursionError | UnicodeError):
        what = "nested too deeply to be read" if isinstance(error, RecursionError) else f"not UTF-8: {error}"
        return f"a file or a word of the command line is {what}", "correct it; --debug shows where it is read", 1
    known = error if isinstance(error, MolarError) else disk_error(error)
    if known is not None:
        return known.message, known.hint, known.exit_code
    hint = "run again with --debug and report what it shows"
    return f"unexpected {type(error).__name__}: {error}", hint, 1


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
