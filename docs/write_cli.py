"""Write docs/cli.md from the command line itself; `make docs` runs this, a test checks that it was run."""

import inspect
import re
from pathlib import Path
from typing import Any

import typer

TARGET = Path(__file__).with_name("cli.md")
HEAD = """# Command line

Written by `make docs` from the commands themselves.

With `--json` a failure is a document on standard output, `{"error": …, "hint": …, "code": n}` with the exit code,
unless the result stands there already (`check`, `index verify`, `evaluate --gate`); standard error has it for people.
"""


def render() -> str:
    """The reference: each command with its help, arguments and options."""
    from molar_cli.app import app

    return "\n".join([HEAD, *_sections(typer.main.get_command(app), ["molar"])])


def _sections(command: Any, path: list[str]) -> list[str]:
    title = " ".join(path)
    parts = [f"## {title}\n\n{_plain(command.help or '')}\n"]
    if rows := [
        _row(p) for p in command.params if not {"--help", "--install-completion", "--show-completion"} & set(p.opts)
    ]:
        parts.append("| option | what |\n|---|---|\n" + "\n".join(rows) + "\n")
    for name, sub in getattr(command, "commands", {}).items():
        parts += _sections(sub, [*path, name])
    return parts


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    option = " ".join(f"`{name if name.startswith('-') else name.upper()}`" for name in names)
    told = getattr(parameter, "show_default", None)
    default = told if isinstance(told, str) else parameter.default
    known = "" if default in (None, False, True, ...) or callable(default) else f" (default: {default})"
    return f"| {option} | {_plain(getattr(parameter, 'help', None) or '')}{known} |"


def _plain(text: str) -> str:
    """Help text without the terminal's markup."""
    return re.sub(r"\[bold\](.*?)\[/\]", r"`\1`", inspect.cleandoc(text)).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
