"""`molar index list|verify|rollback`."""

from typing import Annotated

import typer

from molar_cli.options import DebugOption, JsonOption, QuietOption, WorkspaceOption
from molar_cli.session import session
from molar_retrieval.errors import StaleArtefactError

app = typer.Typer(help="List, verify and roll back the generations of the index.", no_args_is_help=True)


@app.command("list")
def list_(
    workspace: WorkspaceOption = None, json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """List the generations, newest last; the live one is marked.

    Example: [bold]molar index list[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.generations import list_generations

        found = list_generations(run.workspace())
        if json:
            run.console.document({"generations": [g.to_dict() for g in found]})
            return
        rows = [("→" if g.live else "", g.name, g.backend, f"{g.items:,}", f"{g.users:,}", g.created) for g in found]
        run.console.table(["", "generation", "backend", ">items", ">users", "made"], rows)


@app.command()
def verify(
    generation: Annotated[str | None, typer.Argument(help="Default: the live one.", show_default=False)] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every vector.")] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Check that a generation is whole and belongs to the workspace's artefacts.

    Example: [bold]molar index verify --deep[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.generations import open_generation
        from molar_indexes.verify import verify as check

        with open_generation(run.workspace(), generation) as opened:
            problems = check(opened, run.workspace(), deep=deep)
            name = opened.name
        if json:
            run.console.document({"generation": name, "problems": problems})
        elif not problems:
            run.console.line(f"generation {name} is whole")
        if problems:
            raise StaleArtefactError(
                f"generation {name}: " + "; ".join(problems), "run `molar align` again, or `molar index rollback`"
            )


@app.command()
def rollback(
    generation: Annotated[str | None, typer.Argument(help="Default: the one before.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make an older generation the live one.

    Example: [bold]molar index rollback[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.generations import rollback as roll

        live = roll(run.workspace(), generation)
        if json:
            run.console.document({"generation": live.name})
            return
        run.console.line(f"live: generation {live.name}")
