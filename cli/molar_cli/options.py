"""Options that several commands share, spelled once."""

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        envvar="MOLAR_WORKSPACE",
        help="Where results live; default: the nearest .molar here or above.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
SettingsOption = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="Settings instead of molar.toml beside the workspace."),
]
KOption = Annotated[int, typer.Option("-k", help="How many items.")]
PartOption = Annotated[
    str | None,
    typer.Option(
        "--where", metavar="CONDITION", help="Only this part of the catalogue: category = Shoes.", show_default=False
    ),
]
RulesOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Rules instead of rules.toml beside the workspace.", show_default=False),
]
NoRulesOption = Annotated[bool, typer.Option("--no-rules", help="Leave the shop's rules aside.")]


def names(text: str | None) -> list[str] | None:
    """Ids separated by commas; None where nothing was said."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
