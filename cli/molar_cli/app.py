"""The command `molar`: wiring only."""

import gc
import os
import sys
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer

from molar_cli.commands.align import align
from molar_cli.commands.backup import backup, restore
from molar_cli.commands.cf import cf
from molar_cli.commands.check import check
from molar_cli.commands.cluster import app as cluster
from molar_cli.commands.demo import demo
from molar_cli.commands.doctor import doctor
from molar_cli.commands.embed import embed
from molar_cli.commands.evaluate import evaluate
from molar_cli.commands.events import app as events
from molar_cli.commands.experiment import app as experiment
from molar_cli.commands.export import export
from molar_cli.commands.finetune import finetune
from molar_cli.commands.import_ import import_
from molar_cli.commands.index import app as index
from molar_cli.commands.init import init
from molar_cli.commands.keys import app as keys
from molar_cli.commands.privacy import app as privacy
from molar_cli.commands.query import query
from molar_cli.commands.recommend import recommend
from molar_cli.commands.serve import serve
from molar_cli.commands.share import share
from molar_cli.commands.tune import tune
from molar_cli.commands.update import update
from molar_cli.commands.workspace import app as workspace
from molar_cli.console import Console
from molar_retrieval import __version__
from molar_retrieval.workspace.threads import limit_spinning, tell_crashes

app = typer.Typer(
    name="molar",
    help="Recommendations from photos, texts and a purchase log: embed, align, query.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_BODIES = (
    demo, init, import_, check, embed, finetune, cf, align, tune, update, query, recommend, export, serve, evaluate,
    doctor, backup, restore,
)  # fmt: skip
for body in _BODIES:
    app.command(body.__name__.rstrip("_"))(body)
app.add_typer(index, name="index")
app.add_typer(events, name="events")
app.add_typer(experiment, name="experiment")
app.add_typer(keys, name="keys")
app.add_typer(cluster, name="cluster")
privacy.command()(share)
app.add_typer(privacy, name="privacy")
app.add_typer(workspace, name="workspace")

_UsageError: Any = typer.BadParameter.__mro__[1]
"""What typer raises for every command line that it does not understand; where it lies depends on typer's version."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"molar {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


_GARBAGE = 20_000
"""New objects after which cycles among them are looked for, 700 by default. Importing PyTorch and sentence-transformers
makes a million that stay: of its 7.4 s of a processor this saves one, and not to look again at the end two more."""


def main() -> None:
    """Run the command line."""
    tell_crashes()
    limit_spinning()
    gc.set_threshold(_GARBAGE)
    if sys.argv[1:2] == ["query"]:
        _answer_and_leave()
    try:
        _run()
    finally:
        gc.freeze()  # all that is left goes with the process


def _run() -> None:
    """Run the app; with ``--json``, a command line that is not understood is a document as well."""
    if "--json" not in sys.argv:
        app()
        return
    try:
        code = app(standalone_mode=False)
    except _UsageError as error:
        from typer.rich_utils import rich_format_error

        rich_format_error(error)
        asked = "molar" if error.ctx is None else error.ctx.command_path
        code = error.exit_code
        Console(as_json=True).failure(error.format_message(), f"see {asked} --help", code)
    sys.exit(code)


def _answer_and_leave() -> NoReturn:
    """Run a query, and end without tearing anything down: it only read.

    Of the process's CPU time this saves a quarter: 0.34 instead of 0.44 s (medians of 12 queries of the demo shop, by
    user id, in turn with and without). Collecting no garbage on the way saved nothing beside it, and is not done.
    """
    code: object = 1
    try:
        _run()
    except SystemExit as end:
        code = end.code
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
