"""Options that several commands share, spelled once."""

import sys
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import typer

from molar_retrieval.errors import SettingsError, shown
from molar_retrieval.ranking.query import Option, Query, QueryOptions, options_of


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
ConditionOption = Annotated[
    str | None, option("Only items that fulfil this: category = Shoes.", "--where", metavar="CONDITION")
]
RulesOption = Annotated[
    Path | None, option("Rules instead of rules.toml beside the workspace.", "--rules", metavar="FILE")
]
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
RevisionOption = Annotated[str | None, option("Commit or tag of a hub model.")]
DeviceOption = Annotated[str | None, option("cpu, cuda, cuda:1, mps.")]
OfflineOption = Annotated[bool | None, option("Never ask a model hub.", "--offline")]


def names(text: str) -> list[str]:
    """Ids separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


DEFAULTS: QueryOptions = {}
"""Of a query: no option is given."""


def check_rules(file: Path | None, options: QueryOptions) -> None:
    """Refuse a file of rules that are not applied."""
    if file is not None and not options.get("rules", True):
        raise SettingsError("--rules names rules, and --no-rules leaves them aside", "leave one out")


def query_options(kind: type[Query], used: Collection[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a query that are ``used``, in the place of its parameter ``options``.

    As that it gets, by name, those that were given.
    """
    own = {name: one for name, one in options_of(kind).items() if name in used}
    made = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=_typed(one))
        for name, one in own.items()
    ]

    def decorated(body: Callable[..., None]) -> Callable[..., None]:
        def called(run: Any, **said: Any) -> None:
            given = {name: _read(own[name], value) for name in own if (value := said.pop(name)) is not None}
            body(run, options=given, **said)

        parameters = [
            one for each in signature(body).parameters.values() for one in (made if each.name == "options" else [each])
        ]
        called.__name__, called.__doc__ = body.__name__, body.__doc__
        called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return called

    return decorated


def _typed(one: Option) -> Any:
    """The type of a parameter that is an option of a query, with its range and help; the query checks what is said."""
    spelled = one.extra.get("cli") or f"--{one.name.replace('_', '-')}"
    kind, metavar = one.kind, None
    if kind is bool and "cli" not in one.extra:
        spelled = f"{spelled}/--no-{spelled[2:]}"
    if get_origin(kind) is tuple:
        kind, metavar = str, "NAME,NAME" if one.name == "fields" else "ID,ID"
    elif kind is datetime:
        kind, metavar = str, "TIME"
    elif kind in (int, float):
        metavar = f"{one.least:,}…{one.most:,}"
    shown = str(one.default) if one.default not in (None, ()) and kind is not bool else False
    return Annotated[kind | None, typer.Option(spelled, help=one.description, metavar=metavar, show_default=shown)]


def _read(one: Option, value: Any) -> Any:
    """What was said as the type of an option."""
    if get_origin(one.kind) is tuple:
        return names(value)
    if one.kind is not datetime:
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise SettingsError(
            f"{one.name} = {shown(value)} is no point in time", "give it as 2026-11-30T18:00Z"
        ) from error
