"""Options that several commands share, spelled once."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def option(help: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    """An option whose default says nothing, and is not shown; called as its parameter where it has no names."""
    return typer.Option(*names, help=help, metavar=metavar, show_default=False, **more)


def said(value: str) -> str:
    """What was said, or for ``-`` a line of standard input: an id there is in no list of processes, and no history."""
    return sys.stdin.readline().rstrip("\r\n") if value == "-" else value


def said_of_many(values: Sequence[str]) -> list[str]:
    """What was said, ``-`` standing for all lines of standard input that are not empty."""
    lines = (line.rstrip("\r\n") for line in sys.stdin) if "-" in values else ()
    return [*(value for value in values if value != "-"), *(line for line in lines if line)]


WorkspaceOption = Annotated[
    Path | None,
    option(
        "Where results live; default: .molar here. Commands that only read look in the folders above, too.",
        "--workspace",
        "-w",
        metavar="DIR",
        envvar="MOLAR_WORKSPACE",
    ),
]
JsonOption = Annotated[bool, option("One JSON document on standard output, nothing else there.", "--json")]
QuietOption = Annotated[bool, option("No progress and no notes.", "--quiet", "-q")]
DebugOption = Annotated[bool, option("Show tracebacks.", "--debug")]
SettingsOption = Annotated[
    Path | None, option("Settings instead of molar.toml beside the workspace.", "--settings", metavar="FILE")
]
CatalogueArgument = Annotated[
    Path,
    typer.Argument(help="Folder with items.parquet, .csv or .jsonl and images/; or that file.", show_default=False),
]
KOption = Annotated[int, typer.Option("-k", help="How many items, at most 1,000.")]
ListedOption = Annotated[int, typer.Option("-k", help="How many items for each, at most 10,000.")]
WhereOption = Annotated[
    str | None, option("Items to choose from: genres = Drama and year >= 1990.", metavar="CONDITION")
]
ExcludeOption = Annotated[str | None, option("Items that must not come.", metavar="ID,ID")]
OnlyOption = Annotated[str | None, option("The only items that may come.", metavar="ID,ID")]
SeenOption = Annotated[Literal["hide", "show"], typer.Option(help="Items that a user already has.")]
ObjectiveOption = Annotated[
    Literal["next_item", "future_items"] | None,
    option("What is taken next, or all that is taken later. Default: what it was trained for."),
]
DiversityOption = Annotated[
    float, typer.Option(metavar="0…1", help="How much the items should differ in what they look like.")
]
CalibrateOption = Annotated[str | None, option("Mix this field's values as the history does.", metavar="FIELD")]
RerankOption = Annotated[bool, typer.Option("--rerank/--no-rerank", help="Ask the second stage, if there is one.")]
ExploreOption = Annotated[
    bool, typer.Option("--explore/--no-explore", help="Try new items in the places that are theirs, by a draw.")
]
ConditionOption = Annotated[
    str | None, option("Only items that fulfil this: category = Shoes.", "--where", metavar="CONDITION")
]
RulesOption = Annotated[Path | None, option("Rules instead of rules.toml beside the workspace.", metavar="FILE")]
StageOption = Annotated[
    bool, option("Publish beside what is live, which stays: see molar index diff, then rollback.", "--stage")
]
IndexOption = Annotated[
    str | None,
    option(
        "Ask this Qdrant server, or the first node of a cluster that answers; local: the workspace, whatever the"
        " settings say. Default: index.url.",
        "--index",
        metavar="URL,URL",
    ),
]
IndexFallbackOption = Annotated[
    Literal["none", "local"] | None, option("What answers where the server does not: nothing, or the workspace.")
]
TrustOption = Annotated[
    bool, option("Let a model run code of its own: that of its folder or hub page.", "--trust-remote-code")
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="WHERE",
        help="Ray cluster that does the work: ray://HOST:10001; cluster: that of the settings. Default: this machine.",
    ),
]  # fmt: skip
NoRulesOption = Annotated[bool, option("Leave the shop's rules aside.", "--no-rules")]
RevisionOption = Annotated[str | None, option("Commit or tag of a hub model.")]
DeviceOption = Annotated[str | None, option("cpu, cuda, cuda:1, mps.")]
OfflineOption = Annotated[bool | None, option("Never ask a model hub.", "--offline")]


def names(text: str | None) -> list[str] | None:
    """Ids separated by commas; None where nothing was said."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
