"""`molar cf`."""

from typing import Annotated

import typer

from molar_cli.options import DebugOption, JsonOption, QuietOption, SettingsOption, WorkspaceOption
from molar_cli.session import session


def cf(
    factors: Annotated[int | None, typer.Option(help="Length of a factor.", show_default=False)] = None,
    regularization: Annotated[float | None, typer.Option(help="L2 penalty.", show_default=False)] = None,
    iterations: Annotated[int | None, typer.Option(help="ALS sweeps.", show_default=False)] = None,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Learn collaborative factors from the interaction log by implicit ALS.

    `molar align` does this by itself where they are missing or stale.

    Example: [bold]molar cf --factors 128[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        report = run.shop(settings=settings).factorise(
            factors=factors, regularization=regularization, iterations=iterations
        )
        if json:
            run.console.document(report.to_dict())
            return
        done = "up to date" if report.up_to_date else "done"
        facts = report.facts
        run.console.line(
            f"cf: {done}; {facts['factors']} factors of {facts['users']:,} users and {facts['items']:,} items"
            f" from {facts['interactions']:,} training interactions"
        )
