"""Errors for people: short whatever they tell of, and the same in another process."""

import pickle

import pytest

from molar_indexes.server.faults import ServerError
from molar_retrieval.errors import DataError, MolarError, RequestError, nearest, shown


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
