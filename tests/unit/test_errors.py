"""Errors for people: short whatever they tell of, and the same in another process."""

import ast
import pickle
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from molar_cli.app import app
from molar_indexes.server.client import ServerError
from molar_retrieval.errors import DataError, MolarError, RequestError, nearest, shown

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("molar_retrieval", "indexes/molar_indexes", "eval/molar_eval", "cli/molar", "serving/molar_serving")


@pytest.mark.parametrize("error", [DataError("what", "how"), RequestError("x" * 3000, ""), ServerError("a", "b")])
def test_an_error_crosses_from_one_process_to_another(error: MolarError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert (found.message, found.hint, str(found)) == (error.message, error.hint, str(error))
    assert vars(found) == vars(error)


def test_a_message_is_cut() -> None:
    error = DataError("x" * 10_000_000, "y" * 10_000_000)
    assert len(error.message) == len(error.hint) == len(str(error)) == 2000


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("it's", '"it\'s"'),
        ("x" * 81, f"'{'x' * 80}'…"),
        ("\x1b[2J\ud800", "'\\x1b[2J\\ud800'"),
        (3, "3"),
        (10**400, "an integer of 1,329 bits"),
        (float("nan"), "nan"),
        (None, "None"),
        ([["x" * 1000]], "a value of type list"),
    ],
)
def test_a_value_is_quoted_in_few_characters(value: object, words: str) -> None:
    assert shown(value) == words


def test_the_nearest_of_long_words_is_found_by_their_beginnings() -> None:
    assert nearest("colour" + "x" * 1_000_000, ["colours", "size"]) == []
    assert nearest("colur", ["colours", "size"]) == ["colours"]


def test_a_traceback_shows_what_to_do() -> None:
    told = "".join(traceback.format_exception(DataError("it is wrong", "run `molar align`")))
    assert "DataError: it is wrong\nWhat to do: run `molar align`" in told


def _commands(group: object, before: tuple[str, ...] = ()) -> Iterator[str]:
    for name, one in getattr(group, "commands", {}).items():
        yield from _commands(one, (*before, name)) if hasattr(one, "commands") else [" ".join((*before, name))]


def _texts(path: Path) -> Iterator[str]:
    """The texts of a module, but for those that document it; what is put into one stands as X."""
    tree = ast.parse(path.read_text("utf-8"))
    within: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            within |= {id(part) for part in ast.walk(node)} - {id(node)}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Expr):
            within.add(id(node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
            yield node.value


def test_every_command_that_a_text_names_is_there() -> None:
    known = tuple(_commands(typer.main.get_command(app)))
    texts = (
        (path, text) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) for text in _texts(path)
    )
    wrong = [
        f"{path.name}: molar {command}"
        for path, text in texts
        for command in re.findall(r"`molar ([^`]*)`", text)
        if command != "X" and not command.startswith(known)
    ]
    assert wrong == []
