"""Options that several commands share, spelled once."""

from pathlib import Path
from typing import Annotated, Literal

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
KOption = Annotated[int, typer.Option("-k", help="How many items, at most 1,000.")]
ListedOption = Annotated[int, typer.Option("-k", help="How many items for each, at most 10,000.")]
WhereOption = Annotated[
    str | None,
    typer.Option(
        metavar="CONDITION", help="Items to choose from: genres = Drama and year >= 1990.", show_default=False
    ),
]
ExcludeOption = Annotated[
    str | None, typer.Option(metavar="ID,ID", help="Items that must not come.", show_default=False)
]
OnlyOption = Annotated[
    str | None, typer.Option(metavar="ID,ID", help="The only items that may come.", show_default=False)
]
SeenOption = Annotated[Literal["hide", "show"], typer.Option(help="Items that a user already has.")]
DiversityOption = Annotated[
    float, typer.Option(metavar="0…1", help="How much the items should differ in what they look like.")
]
CalibrateOption = Annotated[
    str | None, typer.Option(metavar="FIELD", help="Mix this field's values as the history does.", show_default=False)
]
RerankOption = Annotated[bool, typer.Option("--rerank/--no-rerank", help="Ask the second stage, if there is one.")]
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
IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        metavar="URL",
        help="Ask this Qdrant server; local: the workspace, whatever the settings say. Default: index.url.",
        show_default=False,
    ),
]
IndexFallbackOption = Annotated[
    Literal["none", "local"] | None,
    typer.Option(help="What answers where the server does not: nothing, or the workspace.", show_default=False),
]
TrustOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let a model run code of its own: that of its folder or hub page.")
]
NoRulesOption = Annotated[bool, typer.Option("--no-rules", help="Leave the shop's rules aside.")]


def names(text: str | None) -> list[str] | None:
    """Ids separated by commas; None where nothing was said."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
