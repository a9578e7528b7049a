"""Write docs/cli.md from the command line itself; `make docs` runs this, a test checks that it was run."""

import os
import re
from pathlib import Path

import typer
from typer.testing import CliRunner

TARGET = Path(__file__).with_name("cli.md")
COMMANDS = (
    [],
    ["demo"],
    ["embed"],
    ["cf"],
    ["align"],
    ["query"],
    ["index"],
    ["index", "list"],
    ["index", "verify"],
    ["index", "rollback"],
)


def render() -> str:
    """The reference: the help of each command."""
    os.environ.update(COLUMNS="100", TERMINAL_WIDTH="100", NO_COLOR="1", TERM="dumb")
    from molar_cli.app import app

    parts = ["# Command line\n\nWritten by `make docs` from the commands themselves.\n"]
    for command in COMMANDS:
        text = _help(app, command)
        parts.append(f"## molar {' '.join(command)}".rstrip() + f"\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _help(app: typer.Typer, command: list[str]) -> str:
    output = CliRunner().invoke(app, [*command, "--help"], prog_name="molar").output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    return "\n".join(line.rstrip() for line in plain.strip().splitlines())


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
