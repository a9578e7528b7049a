"""`molar doctor`."""

from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import IndexOption, option
from molar_cli.session import Session, command

if TYPE_CHECKING:
    from molar.doctor import Health
    from molar_cli.console import Console

_MARKS = {"fine": "", "warning": "!", "broken": "✗"}


@command()
def doctor(
    run: Session,
    deep: Annotated[bool, option("Read every byte of the workspace, import and try the libraries.", "--deep")] = False,
    versions: Annotated[bool, option("Name the versions of all libraries, for a bug report.", "--versions")] = False,
    index: IndexOption = None,
) -> None:
    """Say what this installation, machine and workspace are like, and what is wrong with them.

    Problems come first, then what was looked at. The output is made for bug reports: without the home folder's name,
    tokens, or ids. With --quiet only problems are told. Ends with exit code 1 where something is broken.

    Example: [bold]molar doctor[/]

    Example: [bold]molar doctor --deep --versions --json[/]
    """
    health = run.shop().doctor(deep=deep, versions=versions, index=index)
    if not run.document(health.to_dict()):
        _print(run.console, health)
    if health.broken:
        raise typer.Exit(1)


def _print(console: "Console", health: "Health") -> None:
    problems = list(health.problems())
    for section, entry in problems:
        what = f"{_MARKS[entry.state]} {section.title.lower()}: {entry.problem or entry.value}"
        console.line(what, f"  remedy: {entry.remedy}")
    if not problems:
        console.line("nothing is wrong" if health.deep else "nothing is wrong, as far as a quick look tells (--deep)")
    if not console.quiet:
        for section in health.sections:
            rows = [(_MARKS[entry.state], entry.name, entry.value) for entry in section.entries]
            console.line("")
            console.table(["", section.title, ""], rows)
