"""Slices: every row in the right part, whatever the data hold."""

import numpy as np
import pyarrow as pa
import pytest
from eval_model_tasks import log_of
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_eval.cases import Cases
from molar_eval.slices import (
    Labels,
    by_column,
    by_content,
    by_history,
    by_item_age,
    by_popularity,
    by_ties,
    first_times,
    slices_of,
)

DAY = 86_400


def _named(labels):
    return [labels.names[code] if code >= 0 else None for code in labels.codes]


def test_popularity():
    counts = np.array([40, 0, 30, 20, 5, 5])  # 40, 70, 90 and 100 %
    labels = by_popularity(np.array([0, 1, 2, 3, 4, 5, -1, 0]), counts)
    assert _named(labels) == ["head", "cold", "head", "torso", "tail", "tail", None, "head"]
    assert labels.names == ("head", "torso", "tail", "cold")


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_popularity_by_its_definition(counts):
    expected = []
    for count in counts:
        above = sum(c for c in counts if c > count) / max(1, sum(counts))
        expected.append("cold" if count == 0 else "head" if above < 0.5 else "torso" if above < 0.8 else "tail")
    assert _named(by_popularity(np.arange(len(counts)), np.array(counts))) == expected


def test_item_age():
    first = first_times(np.array([2, 0, 2, 1]), np.array([50, 100, 40, 90]) * DAY, 4)
    assert first.tolist() == [100 * DAY, 90 * DAY, 40 * DAY, np.iinfo(np.int64).max]
    target = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, -1])
    days = np.array([100, 107, 108, 130, 121, 455, 406, 10, 500, 500])
    assert _named(by_item_age(target, days * DAY, first)) == [
        *["new (up to a week)"] * 2,
        *["up to a month"] * 2,
        *["up to a year"] * 2,
        "older",
        "new (up to a week)",  # first seen after the case
        "cold",
        None,
    ]


def test_history():
    lengths = [0, 1, 2, 3, 5, 6, 20, 21, 50, 51, 1000]
    expected = ["0", *["1–2"] * 2, *["3–5"] * 2, *["6–20"] * 2, *["21–50"] * 2, *["51+"] * 2]
    assert _named(by_history(np.array(lengths))) == expected


def test_equal_times():
    """Tied with the interaction before, with the one after, with neither; and cases of which it cannot be said."""
    log = log_of([[0, 1, 2, 3, 4], [5, 6], [7]], times=[10, 20, 20, 30, 40, 50, 50, 60])
    lengths = np.array([0, 1, 2, 3, 4, 0, 1, 0, 1, 0])
    users = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 0])
    targets = np.array([0, 1, 2, 3, 4, 5, 6, 7, 7, 3])  # the last two: nothing follows, and the target comes later
    found = _named(by_ties(Cases.single(log, users, lengths, targets)))
    assert found == ["untied", "tied", "tied", "untied", "untied", "tied", "tied", "untied", None, None]
    several = Cases(log, np.array([0]), np.array([1]), np.array([0, 2]), np.array([1, 2], np.int32))
    assert _named(by_ties(several)) == [None]


def test_content():
    photo, description = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    labels = by_content(np.array([3, 2, 1, 0, -1]), photo, description)
    assert _named(labels) == ["neither", "description only", "photo only", "photo and description", None]


def test_categories_most_cases_first_and_the_rest_together():
    values = [f"c{n}" for n in range(12)]
    rows = [n for n in range(12) for _ in range(20 - n)] + [11] * 30
    labels = by_column("colour", pa.array(values), np.array(rows))
    assert labels.names == ("c11", *(f"c{n}" for n in range(7)), "other")
    assert sum(name == "other" for name in _named(labels)) == sum(20 - n for n in range(7, 11))


def test_missing_blank_and_misleading_values():
    values = pa.array(["red", None, " ", "unknown", "other", " red "])
    labels = by_column("colour", values, np.array([0, 1, 2, 3, 4, 5, -1]))
    assert _named(labels) == ["red", "unknown", "unknown", "unknown", "other", "red", None]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string())])
def test_lists_count_as_their_first_value(kind):
    values = pa.array([["skip"], ["drama", "war"], [], None, ["war", "drama"], [None, "war"]], kind).slice(1)
    assert _named(by_column("genres", values, np.arange(5))) == ["drama", "unknown", "unknown", "war", "unknown"]


def test_booleans():
    assert _named(by_column("sale", pa.array([True, None, False]), np.arange(3))) == ["yes", "unknown", "no"]


def test_dictionaries_are_categories():
    values = pa.array(["a", "b", None]).dictionary_encode()
    assert _named(by_column("size", values, np.array([1, 0, 2]))) == ["b", "a", "unknown"]


def test_quartiles_are_of_equal_size_and_say_their_borders():
    price = pa.array([*np.arange(1, 101) / 2, np.nan, None])
    labels = by_column("price", price, np.array([*range(102), -1]))
    assert labels.names == ("up to 12.5", "over 12.5 to 25", "over 25 to 37.5", "over 37.5", "unknown")
    assert np.bincount(labels.codes[:-1]).tolist() == [25, 25, 25, 25, 2]
    assert labels.codes[-1] == -1


@settings(deadline=None, max_examples=100)
@given(st.lists(st.none() | st.integers(-50, 2000), min_size=1, max_size=80))
def test_numbers_lie_where_their_label_says(numbers):
    labels = by_column("year", pa.array(numbers, pa.int64()), np.arange(len(numbers)))
    assert len(set(labels.names)) == len(labels.names)
    assert set(_named(labels)) == set(labels.names)
    for number, name in zip(numbers, _named(labels), strict=True):
        words = name.split()
        if number is None:
            assert name == "unknown"
        elif words[0] == "up":
            assert number <= float(words[2])
        elif words[0] == "over":
            assert number > float(words[1])
            assert len(words) == 2 or number <= float(words[3])
        else:
            assert float(name) == number


def test_few_distinct_numbers_are_categories_in_order_of_size():
    labels = by_column("age", pa.array([25.0, 1.0, None, 18.0, 25.0]), np.arange(5))
    assert labels.names == ("1", "18", "25", "unknown")
    assert _named(labels) == ["25", "1", "unknown", "18", "25"]


def test_skewed_numbers_make_fewer_parts():
    labels = by_column("clicks", pa.array([0] * 90 + list(range(1, 11))), np.arange(100))
    assert labels.names == ("up to 0", "over 0")
    labels = by_column("rating", pa.array([5.0] * 90 + [n / 3 for n in range(10)]), np.arange(100))
    assert labels.names == ("up to 3", "over 3")
    labels = by_column("rating", pa.array([100] * 70 + list(range(30))), np.arange(100))
    assert labels.names == ("up to 24", "over 24")


def test_slices_keep_the_order_and_mark_small_ones():
    labels = Labels("history", ("0", "1–2", "3–5"), np.array([2, 2, 2, 2, 0, 0, 0, -1], np.int32))
    users = np.array(["a", "b", "c", "c", "a", "a", "b", "d"])
    small, large = slices_of(labels, users, minimum=3)
    assert (small.value, small.users, small.too_few) == ("0", 2, True)
    assert (large.value, large.users, large.too_few) == ("3–5", 3, False)
    assert large.mask.tolist() == [True] * 4 + [False] * 4
    assert slices_of(labels, users)[1].too_few


def test_what_is_left_of_all_rows_without_the_slices_that_are_told_is_of_many_users_as_well():
    users = np.array([f"u{n}" for n in range(30)])

    def told(*sizes):
        codes = np.repeat(np.arange(len(sizes)) - 1, sizes).astype(np.int32)
        labels = Labels("age", tuple("abc"[: len(sizes) - 1]), codes)
        return "".join(one.value for one in slices_of(labels, users[: len(codes)]) if not one.too_few)

    assert told(0, 2, 12, 16) == "c"  # else the mean of a would be all less b and c
    assert told(0, 10, 20) == "ab"
    assert told(0, 3, 20) == ""
    assert told(0, 4, 6, 20) == "c"
    assert told(3, 12, 15) == "b"  # of three it is not told to which slice they belong
    assert told(10, 20) == "a"


def test_labels_as_arrow_and_back():
    labels = Labels("history", ("b", "a", "unused"), np.array([1, -1, 0], np.int32))
    array = labels.array()
    assert array.to_pylist() == ["a", None, "b"]
    again = Labels.of_strings("history", labels.names, array.dictionary_decode())
    assert again.names == labels.names
    assert again.codes.tolist() == labels.codes.tolist()
