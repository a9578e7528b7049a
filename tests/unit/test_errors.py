"""Errors for people: short whatever they tell of, and the same in another process; in Python they name its calls."""

import ast
import inspect
import pickle
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import molar
from molar_cli.app import app
from molar_indexes.server.faults import ServerError
from molar_retrieval.errors import CALLS, COMMANDS_ONLY, DataError, MolarError, RequestError, in_python, nearest, shown

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


@pytest.mark.parametrize(
    ("remedy", "in_program"),
    [
        ("run `molar embed CATALOG` first", "run `shop.embed()` first"),
        ("run `molar align --privacy EPSILON`", "run `shop.align(privacy=EPSILON)`"),
        ("`molar align --preset best --stage` makes it", '`shop.align(preset="best", stage=True)` makes it'),
        ("`molar check --no-photos`", "`shop.check(photos=False)`"),
        ("`molar index rollback NAME`", "`shop.rollback(NAME)`"),
        ("`molar workspace move --catalog /a b/c`", '`shop.move(catalogue="/a b/c")`'),
        ("name one with --workspace DIR", "name one with workspace=DIR"),
        ("make one: `molar keys add NAME --role viewer`", "make one: `molar keys add NAME --role viewer`"),
        ("run `pip install --upgrade torch`", "run `pip install --upgrade torch`"),
    ],
)
def test_a_remedy_names_calls_in_python_and_commands_on_the_command_line(remedy: str, in_program: str) -> None:
    error = DataError("it is wrong", remedy)
    assert (error.hint, error.remedy) == (remedy, in_program)
    told = "".join(traceback.format_exception(error))
    assert f"DataError: it is wrong\nWhat to do: {in_program}" in told


def _commands(group: object, before: tuple[str, ...] = ()) -> Iterator[str]:
    for name, one in getattr(group, "commands", {}).items():
        yield from _commands(one, (*before, name)) if hasattr(one, "commands") else [" ".join((*before, name))]


def test_every_command_has_a_call_in_python_or_is_said_to_have_none() -> None:
    assert sorted([*CALLS, *COMMANDS_ONLY]) == sorted(_commands(typer.main.get_command(app)))


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


def test_every_command_that_a_text_names_can_be_called_in_python(tmp_path: Path) -> None:
    shop = molar.Shop(None, tmp_path / ".molar")
    calls, wrong = set(), []
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        for text in _texts(path):
            for command in re.findall(r"`molar ([^`]*)`", text):
                call = in_python(f"`molar {command}`").strip("`")
                if not call.startswith("molar ") or command == "X":
                    calls.add(call)
                elif not command.startswith(COMMANDS_ONLY):
                    wrong.append(f"{path.name}: molar {command}")
    assert wrong == []
    assert "shop.align()" in calls
    for call in sorted(calls - {"molar X", "shop.query(similar=True)"}):  # a page of `check` names options of a command
        node = ast.parse(call, mode="eval").body
        assert isinstance(node, ast.Call), call
        function = eval(ast.unparse(node.func), {"shop": shop, "molar": molar})
        try:
            inspect.signature(function).bind_partial(*node.args, **{str(one.arg): None for one in node.keywords})
        except TypeError as error:
            wrong.append(f"{call}: {error}")
    assert wrong == []
